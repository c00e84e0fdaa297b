//! Strict TOML: `<service>.toml`, then `<service>.d/*.toml` in the order of their names, later keys over earlier ones.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::Table;

mod place;

/// What a service can be told. Each value is checked when it is read; [`Self::check`] sees them together.
pub trait Settings: DeserializeOwned + Default {
    /// Values that no type refuses and that cannot be meant: out of range, or at odds with each other.
    fn check(&self) -> Result<(), Unfit> {
        Ok(())
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", keys.first().copied().unwrap_or("settings"))]
pub struct Unfit {
    /// As in `firewall.dns_v4`; where several do not fit each other, all of them.
    pub keys: &'static [&'static str],
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl Unfit {
    /// See the fields.
    pub fn new(keys: &'static [&'static str], problem: impl Into<String>) -> Self {
        Self {
            keys,
            problem: problem.into(),
        }
    }

    /// For the setting `listen` of a service that answers this host alone. `what` it is: "server".
    ///
    /// # Errors
    /// Where one of the addresses can be reached by others.
    pub fn unless_loopback(listen: &[SocketAddr], what: &str) -> Result<(), Self> {
        match listen.iter().find(|address| !address.ip().is_loopback()) {
            None => Ok(()),
            Some(other) => Err(Self::new(
                &["listen"],
                format!(
                    "{other} can be reached by other hosts, and this {what} is for this one alone; give loopback addresses"
                ),
            )),
        }
    }
}

/// What is wrong with a service's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read configuration {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no TOML, or says something that this service does not know or cannot use.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// No file says it, and yet it cannot be used.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// A file that is there.
struct File {
    path: PathBuf,
    text: String,
}

/// Reads and checks everything; without any file, the defaults.
pub fn load<C: Settings>(directory: &Path, service: &str) -> Result<C, ConfigError> {
    let mut merged = Table::new();
    let mut config = C::default();
    let files = files(directory, service)?;
    for file in &files {
        // by itself first: so that an error has a line
        toml::from_str::<C>(&file.text).map_err(|error| file.invalid(&error))?;
        let table = file.text.parse::<Table>().map_err(|error| file.invalid(&error))?;
        merge(&mut merged, table);
        // then with those before it: whatever does not fit is this one's doing
        config = merged
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Invalid {
                path: file.path.clone(),
                line: place::first_key(&file.text),
                message: format!(
                    "does not fit the files that are read before it: {}",
                    error.message()
                ),
            })?;
    }
    config.check().map_err(|unfit| locate(&files, unfit))?;
    Ok(config)
}

/// Where it is said: the last file wins, as it does for values.
fn locate(files: &[File], unfit: Unfit) -> ConfigError {
    let said = |key: &&'static str| {
        let find = |file: &File| Some((file.path.clone(), place::of_key(&file.text, key)?));
        files.iter().rev().find_map(find)
    };
    match unfit.keys.iter().find_map(said) {
        Some((path, line)) => ConfigError::Invalid {
            path,
            line,
            message: unfit.to_string(),
        },
        None => unfit.into(),
    }
}

/// In the order in which they are read.
fn files(directory: &Path, service: &str) -> Result<Vec<File>, ConfigError> {
    let drop_ins = directory.join(format!("{service}.d"));
    let unreadable = |source| ConfigError::Unreadable {
        path: drop_ins.clone(),
        source,
    };
    let mut paths = match fs::read_dir(&drop_ins) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .filter(|path| {
                path.as_ref()
                    .map_or(true, |path| path.extension().is_some_and(|end| end == "toml"))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable)?,
        Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(unreadable(source)),
    };
    paths.sort();
    paths.insert(0, directory.join(format!("{service}.toml")));
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Some(Ok(File { path, text })),
        Err(source) if source.kind() == io::ErrorKind::NotFound => None,
        Err(source) => Some(Err(ConfigError::Unreadable { path, source })),
    };
    paths.into_iter().filter_map(read).collect()
}

impl File {
    fn invalid(&self, error: &toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        ConfigError::Invalid {
            path: self.path.clone(),
            line: place::line(&self.text, start),
            message: error.message().to_owned(),
        }
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
