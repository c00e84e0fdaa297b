//! Many globs, tried at once.

use std::path::Path;

use globset::{Candidate, Error, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Globs of one [`GlobSet`]: the sets of thousands exceed what a regular expression may be.
const CHUNK: usize = 512;

/// One glob as we mean it: `*` and `?` stay within a path component, `**` does not.
pub(crate) fn glob(text: &str) -> Result<Glob, Error> {
    GlobBuilder::new(text).literal_separator(true).build()
}

/// Numbered globs.
#[derive(Debug, Default)]
pub(super) struct Globs {
    /// A set, and the number of its first glob.
    sets: Vec<(GlobSet, usize)>,
}

impl Globs {
    /// The number of a glob is its place in `globs`; so is the number of the one that is refused.
    pub(super) fn new(globs: &[String]) -> Result<Self, (usize, Error)> {
        let mut sets = Vec::new();
        for (number, chunk) in globs.chunks(CHUNK).enumerate() {
            add(&mut sets, chunk, number * CHUNK)?;
        }
        Ok(Self { sets })
    }

    pub(super) fn matching(&self, path: &Path) -> Vec<usize> {
        if self.sets.is_empty() {
            return Vec::new();
        }
        let candidate = Candidate::new(path);
        let matching = |(set, first): &(GlobSet, usize)| {
            let first = *first;
            set.matches_candidate(&candidate)
                .into_iter()
                .map(move |number| first + number)
        };
        self.sets.iter().flat_map(matching).collect()
    }
}

/// A set that would be too large is made as two.
fn add(sets: &mut Vec<(GlobSet, usize)>, globs: &[String], first: usize) -> Result<(), (usize, Error)> {
    let mut builder = GlobSetBuilder::new();
    for (number, text) in globs.iter().enumerate() {
        builder.add(glob(text).map_err(|error| (first + number, error))?);
    }
    match builder.build() {
        Ok(set) => sets.push((set, first)),
        Err(error) if globs.len() <= 1 => return Err((first, error)),
        Err(_) => {
            let (left, right) = globs.split_at(globs.len() / 2);
            add(sets, left, first)?;
            add(sets, right, first + left.len())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_component() {
        let texts = [
            "/opt/*/bin/x",
            "/opt/**/x",
            "/usr/bin/py?hon",
            "/home/{a,b}/[x-z]",
        ];
        let globs = Globs::new(&texts.map(str::to_owned)).unwrap();
        let matching = |path: &str| globs.matching(path.as_ref());
        assert_eq!(matching("/opt/one/bin/x"), [0, 1]);
        assert_eq!(matching("/opt/one/two/bin/x"), [1]);
        assert_eq!(matching("/usr/bin/python"), [2]);
        assert_eq!(matching("/usr/bin/py/hon"), [] as [usize; 0]);
        assert_eq!(matching("/home/b/y"), [3]);
    }

    #[test]
    fn thousands_are_no_trouble_and_a_bad_one_is_named() {
        let mut texts: Vec<_> = (0..3000).map(|n| format!("/opt/app{n}/*/bin/tool-*")).collect();
        let all = Globs::new(&texts).unwrap();
        assert_eq!(all.matching("/opt/app2777/x/bin/tool-3".as_ref()), [2777]);
        "/opt/[".clone_into(&mut texts[1234]);
        assert_eq!(Globs::new(&texts).unwrap_err().0, 1234);
    }
}
