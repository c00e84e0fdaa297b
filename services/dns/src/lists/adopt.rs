//! Whether a download takes the place of what is there.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use dns_core::lists::{Covers, MOST_NAMES, Reader};
use minisign_verify::{PublicKey, Signature};
use sha2::{Digest as _, Sha256};

/// A download on its way to disk.
#[derive(Debug)]
pub(super) struct Offer {
    path: PathBuf,
    file: File,
    sum: Sha256,
}

/// What it has to be.
#[derive(Debug)]
pub(super) struct Wanted {
    /// SHA-256, in lower-case hexadecimal digits.
    pub(super) sum: Option<String>,
    /// A public key, and a signature.
    pub(super) signature: Option<(String, String)>,
    pub(super) covers: Covers,
    /// What is there has so many.
    pub(super) names: u64,
    /// It has to have this part of them.
    pub(super) min_percent: u8,
}

impl Offer {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            sum: Sha256::new(),
        })
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.sum.update(piece);
        self.file
            .write_all(piece)
            .with_context(|| format!("write {}", self.path.display()))
    }

    /// Puts it in the place of `to`, and tells how many names it has.
    ///
    /// # Errors
    /// Says why not; `to` is as it was.
    pub(super) fn adopt(self, wanted: &Wanted, to: &Path) -> anyhow::Result<u64> {
        let what = || format!("keep {}", to.display());
        self.file.sync_all().with_context(what)?;
        if let Some(sum) = &wanted.sum {
            let got = self
                .sum
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>();
            ensure!(
                got == *sum,
                "its SHA-256 is {got} and has to be {sum}: it was changed on its way, or `sha256` is that of an older one"
            );
        }
        if let Some((key, signature)) = &wanted.signature {
            verify(&self.path, key, signature).context(
                "its signature does not hold: it was changed on its way, or `minisign_key` is not its publisher's",
            )?;
        }
        let names = names(&self.path, wanted)?;
        fs::rename(&self.path, to).with_context(what)?;
        // that it is there after a power cut as well
        if let Some(folder) = to.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .with_context(what)?;
        }
        Ok(names)
    }
}

fn names(path: &Path, wanted: &Wanted) -> anyhow::Result<u64> {
    let mut reader = Reader::new(wanted.covers);
    pieces(path, |piece| reader.feed(piece, |_, _, _| ()))?;
    let report = reader.finish(|_, _, _| ());
    ensure!(
        report.entries > 0,
        "no line of it is a name ({} lines say nothing); see docs/lists.md for the forms that are read",
        report.garbage
    );
    ensure!(
        report.garbage <= report.entries,
        "it is no list: {} lines say nothing, beside {} names{}",
        report.garbage,
        report.entries,
        report
            .first
            .first()
            .map(|garbage| format!("; line {}: {:?}", garbage.line, garbage.text))
            .unwrap_or_default()
    );
    ensure!(
        report.entries <= MOST_NAMES as u64,
        "it has {} names, and there is room for {MOST_NAMES} of all lists together",
        report.entries
    );
    let least = u128::from(wanted.names) * u128::from(wanted.min_percent) / 100;
    ensure!(
        u128::from(report.entries) >= least,
        "it has {} names after {}; if that is meant, set `min_percent` lower for once",
        report.entries,
        wanted.names
    );
    Ok(report.entries)
}

fn verify(path: &Path, key: &str, signature: &str) -> anyhow::Result<()> {
    let (key, signature) = (PublicKey::from_base64(key)?, Signature::decode(signature)?);
    let mut verifier = key.verify_stream(&signature)?;
    pieces(path, |piece| verifier.update(piece))?;
    Ok(verifier.finalize()?)
}

fn pieces(path: &Path, mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let what = || format!("read {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece).with_context(what)? {
            0 => return Ok(()),
            length => each(piece.get(..length).unwrap_or_default()),
        }
    }
}
