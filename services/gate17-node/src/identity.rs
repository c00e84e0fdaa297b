//! The node's key: by the digest of its public half it is known, whatever its certificate says.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use daemon::Paths;
use gate17_proto::map::KeyPin;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;

/// A key with its certificates.
#[derive(Debug)]
pub struct Identity {
    /// SHA-256 of the key's `SubjectPublicKeyInfo`.
    pub pin: KeyPin,
    key: PrivateKeyDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Of the files that the configuration names; else of the state directory, where they are made when there are none.
    ///
    /// # Errors
    /// Where they cannot be read, used or made.
    pub fn load_or_make(config: &Config, paths: &Paths) -> anyhow::Result<Self> {
        if let (Some(key), Some(certificate)) = (&config.key, &config.certificate) {
            return Self::load(&paths.config.join(key), &paths.config.join(certificate));
        }
        let (key, certificate) = (paths.state.join("key.pem"), paths.state.join("certificate.pem"));
        if !key.exists() {
            make(&paths.state, &key, &certificate).context("make this node's key")?;
        }
        Self::load(&key, &certificate)
    }

    fn load(key_file: &Path, certificate_file: &Path) -> anyhow::Result<Self> {
        let key =
            PrivateKeyDer::from_pem_file(key_file).with_context(|| format!("read {}", key_file.display()))?;
        let certificates = CertificateDer::pem_file_iter(certificate_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("read {}", certificate_file.display()))?;
        let signing = aws_lc_rs::sign::any_supported_type(&key)
            .with_context(|| format!("use {}; give an ECDSA (P-256) key", key_file.display()))?;
        let public = signing
            .public_key()
            .with_context(|| format!("find the public half of {}", key_file.display()))?;
        Ok(Self {
            pin: KeyPin(Sha256::digest(&public).into()),
            key,
            certificates,
        })
    }

    /// TLS 1.3, `h2` before `http/1.1`.
    ///
    /// # Errors
    /// Where key and certificate are not of each other.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.certificates.clone(), self.key.clone_key())
            .context("use this node's key with its certificate")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // every circuit has a new key: what one leg of a client's has taught is no help with the next
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What the map says of this node, as far as the node knows it: its addresses and whose it is are its operator's to say.
///
/// # Errors
/// Where there is no key and none can be made, or nobody reads.
pub fn print_descriptor(config: &Config, paths: &Paths) -> anyhow::Result<()> {
    let identity = Identity::load_or_make(config, paths)?;
    let mut descriptor = toml::Table::new();
    descriptor.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    let keys = vec![toml::Value::String(identity.pin.to_string())];
    descriptor.insert("keys".to_owned(), keys.into());
    descriptor.insert("exit".to_owned(), toml::Value::try_from(&config.exit)?);
    let text = toml::to_string(&descriptor)?;
    std::io::stdout().write_all(text.as_bytes()).context("print")
}

/// P-256 and a certificate that says nothing.
fn make(folder: &Path, key_file: &Path, certificate_file: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "localhost");
    let certificate = parameters.self_signed(&key)?;
    // the key last: where it is, all is
    write_private(certificate_file, certificate.pem().as_bytes())?;
    write_private(key_file, key.serialize_pem().as_bytes())
}

/// Whole or not at all, 0600.
fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .with_context(|| format!("write {}", new.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            config: folder.path().join("etc"),
            runtime: folder.path().join("run"),
            state: folder.path().join("state"),
        };
        let first = Identity::load_or_make(&Config::default(), &paths).unwrap();
        let again = Identity::load_or_make(&Config::default(), &paths).unwrap();
        assert_eq!(first.pin, again.pin);
        first.acceptor().unwrap();
        let mode = fs::metadata(paths.state.join("key.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
