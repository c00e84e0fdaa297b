//! Files of keys: private ones are for their owner alone from the beginning, and none is ever written over.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gate17_proto::map::{self, PublicKey, Root};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key, and the file that it lies in.
pub(super) struct Key {
    pub(super) path: PathBuf,
    pub(super) pair: Ed25519KeyPair,
    pub(super) public: PublicKey,
}

impl Key {
    fn new(path: &Path, pair: Ed25519KeyPair) -> Result<Self> {
        let public = map::public(&pair).context("the key has no public half")?;
        Ok(Self {
            path: path.to_owned(),
            pair,
            public,
        })
    }

    /// A new one, in a new file: PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it.
    pub(super) fn make(path: &Path) -> Result<Self> {
        let pair = Ed25519KeyPair::generate().map_err(|_| anyhow::anyhow!("a key cannot be made"))?;
        let der = pair
            .to_pkcs8v1()
            .map_err(|_| anyhow::anyhow!("a key cannot be written"))?;
        private(path, pem(der.as_ref()).as_bytes())?;
        Self::new(path, pair)
    }

    /// PKCS #8, in PEM or not.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let octets = fs::read(path).with_context(|| format!("read the key {}", path.display()))?;
        if let Ok(found) = fs::metadata(path)
            && found.permissions().mode() & 0o077 != 0
        {
            eprintln!("{0} can be read by others: chmod 600 {0}", path.display());
        }
        let der = std::str::from_utf8(&octets).ok().and_then(of_pem);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.as_deref().unwrap_or(&octets)).map_err(
            |error| {
                anyhow::anyhow!(
                    "{} is no Ed25519 key in PKCS #8: {error}; `portmaster gate17 network new-key` makes one",
                    path.display()
                )
            },
        )?;
        Self::new(path, pair)
    }
}

/// Those given, else those in the folder; only such as `roots` name.
pub(super) fn signing(given: &[PathBuf], dir: &Path, roots: &[&Root]) -> Result<Vec<Key>> {
    let is_of = |key: &Key| roots.iter().any(|root| root.keys.contains(&key.public));
    if !given.is_empty() {
        let keys = given
            .iter()
            .map(|path| Key::read(path))
            .collect::<Result<Vec<_>>>()?;
        for key in &keys {
            ensure!(
                is_of(key),
                "{} is no root key of this network: those are {}",
                key.path.display(),
                list(roots)
            );
        }
        return Ok(keys);
    }
    let mut keys = Vec::new();
    for path in files(dir)? {
        let key = Key::read(&path)?;
        if is_of(&key) {
            keys.push(key);
        }
    }
    ensure!(
        !keys.is_empty(),
        "no root key of this network lies in {}: name one with --key; the network's are {}",
        dir.display(),
        list(roots)
    );
    Ok(keys)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("look for keys in {}", dir.display());
    let mut files = fs::read_dir(dir)
        .with_context(read)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .with_context(read)?;
    files.retain(|path| path.extension().is_some_and(|end| end == "key"));
    files.sort();
    Ok(files)
}

fn list(roots: &[&Root]) -> String {
    let mut keys: Vec<_> = roots
        .iter()
        .flat_map(|root| root.keys.iter().copied().map(String::from))
        .collect();
    keys.sort();
    keys.dedup();
    keys.join(", ")
}

/// A public key as an argument: itself, or a file that has it, or the private one.
pub(super) fn public(text: &str) -> Result<PublicKey> {
    if text.starts_with("ed25519:") {
        return PublicKey::try_from(text.to_owned()).map_err(anyhow::Error::msg);
    }
    let path = Path::new(text);
    let octets = fs::read(path).with_context(|| {
        format!("{text:?} is neither a public key (ed25519:… and 64 hexadecimal digits) nor a file that can be read")
    })?;
    let word = std::str::from_utf8(&octets)
        .ok()
        .and_then(|text| text.split_whitespace().find(|word| word.starts_with("ed25519:")));
    match word {
        Some(word) => PublicKey::try_from(word.to_owned())
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("read the public key in {text}")),
        None => Ok(Key::read(path)?.public),
    }
}

/// A path for one more root key.
pub(super) fn free(dir: &Path) -> Result<PathBuf> {
    (1..=1000)
        .map(|number| dir.join(format!("root-{number}.key")))
        .find(|path| !path.exists())
        .with_context(|| format!("{} is full of keys: move those that are not used", dir.display()))
}

/// For its owner alone, from the beginning; never in place of another.
fn private(path: &Path, content: &[u8]) -> Result<()> {
    let written = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{} is not written over: give another name", path.display()))
        }
        other => other.with_context(|| format!("write {}", path.display())),
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = vec![BEGIN];
    let mut rest = text.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        lines.push(line);
        rest = more;
    }
    lines.extend([rest, END]);
    lines.retain(|line| !line.is_empty());
    lines.join("\n") + "\n"
}

fn of_pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_was_made_for_its_owner_alone_and_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let made = Key::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::read(&path).unwrap().public, made.public);
        let before = fs::read(&path).unwrap();
        let said = format!("{:#}", Key::make(&path).err().unwrap());
        assert!(said.contains("a.key is not written over"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), before);
        // as the first version wrote them
        fs::write(&path, Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap()).unwrap();
        assert!(Key::read(&path).is_ok());
        fs::write(&path, "no key").unwrap();
        let said = format!("{:#}", Key::read(&path).err().unwrap());
        assert!(said.contains("a.key is no Ed25519 key"), "{said}");
    }

    #[test]
    fn a_public_key_is_given_by_itself_or_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().join("a.key"), folder.path().join("a.pub"));
        let key = Key::make(&path).unwrap();
        let text = String::from(key.public);
        fs::write(&file, format!("{text}\n")).unwrap();
        for given in [text.as_str(), path.to_str().unwrap(), file.to_str().unwrap()] {
            assert_eq!(public(given).unwrap(), key.public, "{given}");
        }
        for wrong in ["ed25519:17", "/no/such/file"] {
            assert!(public(wrong).is_err(), "{wrong}");
        }
    }
}
