//! Strict TOML: `<service>.toml`, then `<service>.d/*.toml` in the order of their names, later keys over earlier ones.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::Table;

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
    /// A file is no TOML, or says something that this service does not know.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
}

/// Reads and checks everything; without any file, the defaults.
pub fn load<C: DeserializeOwned + Default>(directory: &Path, service: &str) -> Result<C, ConfigError> {
    let mut merged = Table::new();
    let mut found = false;
    for path in files(directory, service)? {
        let text = match fs::read_to_string(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|source| ConfigError::Unreadable {
                path: path.clone(),
                source,
            })?,
        };
        // each file by itself first: so that an error has a line
        toml::from_str::<C>(&text).map_err(|error| invalid(&path, &text, &error))?;
        let table = text
            .parse::<Table>()
            .map_err(|error| invalid(&path, &text, &error))?;
        merge(&mut merged, table);
        found = true;
    }
    if !found {
        return Ok(C::default());
    }
    let path = directory.join(format!("{service}.d"));
    merged
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Invalid {
            path,
            line: 0,
            message: error.message().to_owned(),
        })
}

fn files(directory: &Path, service: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let drop_ins = directory.join(format!("{service}.d"));
    let unreadable = |source| ConfigError::Unreadable {
        path: drop_ins.clone(),
        source,
    };
    let mut files = match fs::read_dir(&drop_ins) {
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
    files.sort();
    files.insert(0, directory.join(format!("{service}.toml")));
    Ok(files)
}

fn invalid(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).unwrap_or(text).lines().count().max(1);
    // a position at the beginning of a line belongs to that line
    let line = if start > 0 && text.get(..start).is_some_and(|before| before.ends_with('\n')) {
        line + 1
    } else {
        line
    };
    ConfigError::Invalid {
        path: path.to_owned(),
        line,
        message: error.message().to_owned(),
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
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        one: u8,
        two: u8,
    }

    #[test]
    fn drop_ins_go_over_the_file_key_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert_eq!(load::<Config>(directory.path(), "x").unwrap(), Config::default());
        fs::create_dir(directory.path().join("x.d")).unwrap();
        write("x.toml", "name = 'a'\n[inner]\none = 1\ntwo = 1\n");
        write("x.d/20.toml", "inner.two = 3\n");
        write("x.d/10.toml", "inner.two = 2\n");
        write("x.d/notes.txt", "not ours");
        let config = load::<Config>(directory.path(), "x").unwrap();
        assert_eq!(
            config,
            Config {
                name: "a".into(),
                inner: Inner { one: 1, two: 3 }
            }
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("x.toml"),
            "name = 'a'\n\n[inner]\nthree = 3\n",
        )
        .unwrap();
        let error = load::<Config>(directory.path(), "x").unwrap_err().to_string();
        assert!(error.contains("x.toml:4:") && error.contains("three"), "{error}");
    }
}
