//! What the owner writes of a list in `dns.toml`.

use std::path::PathBuf;

use dns_core::lists::Covers;
use hyper::Uri;
use minisign_verify::PublicKey;
use serde::Deserialize;

/// A list in `dns.toml`: a local file, or what is to be downloaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is called in reasons and events.
    pub name: String,
    /// What it is about; profiles choose by these words (`block_lists`).
    #[serde(default)]
    pub categories: Vec<String>,
    /// Its file; relative to the folder of the configuration.
    pub file: Option<PathBuf>,
    /// Where it is published: http or https.
    pub url: Option<String>,
    /// What a name alone on its line covers.
    #[serde(default)]
    pub covers: Plain,
    /// Hours between two looks whether there is a new one.
    #[serde(default = "day")]
    pub refresh: u32,
    /// Larger files and downloads are refused, in MiB.
    #[serde(default = "quarter_gibi")]
    pub max_size: u32,
    /// What has less than this percentage of the names that the list had is refused; see [`Self::min_percent`].
    min_percent: Option<u8>,
    /// What it has to be: 64 hexadecimal digits, or the address of a file as sha256sum(1) writes it.
    pub sha256: Option<String>,
    /// Who has to have signed it, as minisign(1) writes its public key; the signature is beside the list, as `.minisig`.
    pub minisign_key: Option<String>,
    /// Certificate authorities to believe instead of the system's, in PEM form; relative to the folder of the configuration.
    pub ca_file: Option<PathBuf>,
}

const fn day() -> u32 {
    24
}

const fn quarter_gibi() -> u32 {
    256
}

/// Of downloads, unless the owner says otherwise.
const HALF: u8 = 50;

/// See [`Source::covers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plain {
    /// That name.
    #[default]
    Name,
    /// And all below it.
    Zone,
}

impl From<Plain> for Covers {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Name => Self::Name,
            Plain::Zone => Self::Zone,
        }
    }
}

impl Source {
    /// What has less than this percentage of the names that the list had is refused. Whoever shortens a file of his own means
    /// it, unless he says otherwise.
    pub fn min_percent(&self) -> u8 {
        let usual = if self.url.is_some() { HALF } else { 0 };
        self.min_percent.unwrap_or(usual)
    }

    /// Octets that it may have.
    pub fn largest(&self) -> u64 {
        u64::from(self.max_size) << 20
    }

    /// Whether it can be meant.
    ///
    /// # Errors
    /// Says what is wrong, and what to write.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if self.file.is_some() == self.url.is_some() {
            return Err(format!("list {name:?}: give it either a `file` or a `url`"));
        }
        if let Some(url) = &self.url {
            parse_url(url).map_err(|error| format!("list {name:?}: `url`: {error}"))?;
        } else if self.sha256.is_some() || self.minisign_key.is_some() {
            return Err(format!(
                "list {name:?}: `sha256` and `minisign_key` are for downloads; a local file is the owner's own"
            ));
        }
        if let Some(Err(error)) = self.sha256.as_deref().map(Sum::parse) {
            return Err(format!("list {name:?}: `sha256`: {error}"));
        }
        if let Some(Err(error)) = self.minisign_key.as_deref().map(PublicKey::from_base64) {
            return Err(format!(
                "list {name:?}: `minisign_key`: {error}; give the second line of the file minisign.pub"
            ));
        }
        if self.refresh == 0 || self.refresh > 24 * 366 {
            return Err(format!("list {name:?}: `refresh`: give 1 to 8784 hours"));
        }
        if self.max_size == 0 || self.max_size > 1024 {
            return Err(format!("list {name:?}: `max_size`: give 1 to 1024 MiB"));
        }
        if self.min_percent() > 100 {
            return Err(format!("list {name:?}: `min_percent`: give 0 to 100"));
        }
        Ok(())
    }
}

/// See [`Source::sha256`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// In lower case.
    Known(String),
    /// Published beside the list.
    At(Uri),
}

impl Sum {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if is_sum(text) {
            return Ok(Self::Known(text.to_ascii_lowercase()));
        }
        parse_url(text)
            .map(Self::At)
            .map_err(|_| "give 64 hexadecimal digits, or the http(s) address of a file that has them".into())
    }
}

pub(super) fn is_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An address that can be downloaded from.
pub(super) fn parse_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("{text:?} is no address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(format!(
            "{text:?} begins neither with http:// nor with https:// and a host"
        ));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("a user in an address is not supported; a list is public".into());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_remedy() {
        for (text, said) in [
            ("", "either a `file` or a `url`"),
            (
                "file = 'a'\nurl = 'https://a.test/'",
                "either a `file` or a `url`",
            ),
            ("url = 'ftp://a.test/'", "http://"),
            ("url = 'https://me:secret@a.test/'", "a user"),
            ("file = 'a'\nsha256 = 'https://a.test/sums'", "for downloads"),
            ("url = 'https://a.test/'\nsha256 = 'abc'", "64 hexadecimal digits"),
            ("url = 'https://a.test/'\nminisign_key = 'abc'", "minisign.pub"),
            ("url = 'https://a.test/'\nrefresh = 0", "1 to 8784"),
            ("url = 'https://a.test/'\nmax_size = 0", "1 to 1024"),
            ("url = 'https://a.test/'\nmin_percent = 101", "0 to 100"),
        ] {
            let source: Source = toml::from_str(&format!("name = 'ads'\n{text}")).unwrap();
            let error = source.check().unwrap_err();
            assert!(
                error.contains(said) && error.contains("\"ads\""),
                "{text}: {error}"
            );
        }
        let good =
            "name = 'ads'\nurl = 'https://[2001:db8::1]:8443/list.txt?x=1'\nsha256 = 'https://a.test/sums'";
        toml::from_str::<Source>(good).unwrap().check().unwrap();
    }
}
