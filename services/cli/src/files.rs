//! Profile files, read here instead of by the policy service: for `rules check` and `explain --config`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use verdict::policy::{
    CompiledPolicy,
    file::{parse_global, parse_profile},
    model::{Global, Profile, Snapshot},
    shipped,
};

use crate::users;

/// Holds the settings for all programs; every other file is a profile.
const GLOBAL: &str = "global.toml";

/// What a file says.
#[derive(Debug)]
pub(crate) enum Content {
    Global(Box<Global>),
    Profile(Box<Profile>),
}

/// Reads one file. The error names file, line and remedy.
pub(crate) fn read(path: &Path) -> Result<Content> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let shown = path.display().to_string();
    if name == GLOBAL {
        return Ok(Content::Global(Box::new(parse_global(
            &shown,
            &text,
            &users::id,
        )?)));
    }
    let id = name.strip_suffix(".toml").filter(|id| !id.is_empty());
    let id = id
        .ok_or_else(|| anyhow!("{shown}: the policy service reads only files called NAME.toml: rename it"))?;
    Ok(Content::Profile(Box::new(parse_profile(
        id,
        &shown,
        &text,
        &users::id,
    )?)))
}

/// The files that the policy service would read in a folder laid out like /etc/portmaster, or in its `profiles.d`; sorted.
pub(crate) fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let below = folder.join("profiles.d");
    let folder = if below.is_dir() { below } else { folder.to_owned() };
    let list = || {
        fs::read_dir(&folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut files = list().with_context(|| format!("list {}", folder.display()))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !is_hidden(path));
    files.sort();
    Ok(files)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The policy that a folder's files make, with the shipped settings where it has no `global.toml`.
///
/// # Errors
/// With all that is refused: an answer by half a policy would mislead.
pub(crate) fn policy(folder: &Path) -> Result<CompiledPolicy> {
    let files = in_folder(folder)?;
    let (good, bad) = split(files.iter().map(|path| read(path)));
    if !bad.is_empty() {
        let errors: Vec<String> = bad.iter().map(|error| format!("{error:#}")).collect();
        bail!("{} refused: {}", folder.display(), errors.join("; "));
    }
    compile(good).with_context(|| format!("use the profiles in {}", folder.display()))
}

/// Puts files together, as the policy service does.
pub(crate) fn compile(contents: Vec<Content>) -> Result<CompiledPolicy> {
    let mut snapshot: Snapshot = shipped()?;
    for content in contents {
        match content {
            Content::Global(global) => snapshot.global = *global,
            Content::Profile(profile) => snapshot.profiles.push(*profile),
        }
    }
    Ok(CompiledPolicy::new(snapshot)?)
}

fn split(results: impl Iterator<Item = Result<Content>>) -> (Vec<Content>, Vec<anyhow::Error>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(content) => good.push(content),
            Err(error) => bad.push(error),
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    const CURL: &str = "[[match]]\npath = \"/usr/bin/curl\"\n";

    #[test]
    fn a_folder_is_read_as_the_policy_service_reads_it() {
        let folder = folder(&[
            ("profiles.d/curl.toml", CURL),
            ("profiles.d/.new.toml", "?"),
            ("profiles.d/notes.txt", "?"),
            ("x.toml", "?"),
        ]);
        let files = in_folder(folder.path()).unwrap();
        assert_eq!(files, [folder.path().join("profiles.d/curl.toml")]);
        assert_eq!(policy(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_folder_with_a_mistake_is_refused_with_file_and_line() {
        let folder = folder(&[
            ("a.toml", CURL),
            ("b.toml", "[settings]\ndefault_acton = \"allow\"\n"),
        ]);
        let error = format!("{:#}", policy(folder.path()).unwrap_err());
        assert!(error.contains("b.toml:2:"), "{error}");
    }

    #[test]
    fn a_file_by_another_name_is_no_profile() {
        let folder = folder(&[("curl.tml", CURL)]);
        let error = read(&folder.path().join("curl.tml")).unwrap_err();
        assert!(error.to_string().contains("NAME.toml"));
    }
}
