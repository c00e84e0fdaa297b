//! Links in profiles: the kernel knows a program by its file, so a profile for `/usr/bin/python3` must mean the
//! `/usr/bin/python3.11` that it leads to today.

use std::path::{Path, PathBuf};

use verdict::policy::model::{Matcher, Profile};

/// The profile, with a matcher more for each one that names a link. Who may turn the link could as well replace the file
/// that the owner named, so following it trusts nobody new.
pub(crate) fn followed(profile: &Profile) -> Profile {
    let mut profile = profile.clone();
    let targets: Vec<_> = profile.matchers.iter().filter_map(target).collect();
    for target in targets {
        if !profile.matchers.contains(&target) {
            profile.matchers.push(target);
        }
    }
    profile
}

fn target(matcher: &Matcher) -> Option<Matcher> {
    let path = matcher.path.as_deref().and_then(leads_elsewhere);
    let script = matcher.script.as_deref().and_then(leads_elsewhere);
    if path.is_none() && script.is_none() {
        return None;
    }
    Some(Matcher {
        path: path.or_else(|| matcher.path.clone()),
        script: script.or_else(|| matcher.script.clone()),
        ..matcher.clone()
    })
}

fn leads_elsewhere(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().filter(|target| target != path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(path: &Path) -> Profile {
        let matcher = Matcher {
            path: Some(path.to_owned()),
            uid: Some(7),
            ..Matcher::default()
        };
        Profile {
            matchers: vec![matcher],
            ..Profile::default()
        }
    }

    #[test]
    fn a_link_stands_for_its_target_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (file, link) = (root.join("python3.11"), root.join("python3"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("python3.11", &link).unwrap();
        let followed_link = followed(&profile(&link));
        let paths: Vec<_> = followed_link
            .matchers
            .iter()
            .map(|matcher| (matcher.path.clone().unwrap(), matcher.uid))
            .collect();
        assert_eq!(paths, [(link, Some(7)), (file.clone(), Some(7))]);
        assert_eq!(followed(&followed_link), followed_link);
        assert_eq!(followed(&profile(&file)), profile(&file));
        let missing = profile(&root.join("not-there"));
        assert_eq!(followed(&missing), missing);
    }
}
