//! Values out of TOML, with the line of each that is not what it should be.

use std::ops::{Range, RangeInclusive};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::FileError;

pub(super) type Key<'i> = Spanned<DeString<'i>>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A file being read.
pub(super) struct Reader<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) users: &'a dyn Fn(&str) -> Option<u32>,
}

impl<'a> Reader<'a> {
    /// The file as TOML.
    pub(super) fn document(&self) -> Result<Spanned<DeTable<'a>>, FileError> {
        DeTable::parse(self.text).map_err(|error| {
            let problem = format!("not TOML: {}", error.message().lines().next().unwrap_or_default());
            self.error(
                error.span().unwrap_or(0..0),
                problem,
                "see https://toml.io for how it is written",
            )
        })
    }

    pub(super) fn error(
        &self,
        at: Range<usize>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> FileError {
        let before = self
            .text
            .as_bytes()
            .get(..at.start)
            .unwrap_or(self.text.as_bytes());
        FileError {
            path: self.path.to_owned(),
            line: 1 + before.iter().filter(|octet| **octet == b'\n').count(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn string<'v>(&self, key: &Key<'_>, value: &'v Value<'_>) -> Result<&'v str, FileError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            other => Err(self.kind(key, value, other, "text in quotes")),
        }
    }

    pub(super) fn boolean(&self, key: &Key<'_>, value: &Value<'_>) -> Result<bool, FileError> {
        match value.get_ref() {
            DeValue::Boolean(boolean) => Ok(*boolean),
            other => Err(self.kind(key, value, other, "true or false")),
        }
    }

    pub(super) fn integer(
        &self,
        key: &Key<'_>,
        value: &Value<'_>,
        within: RangeInclusive<i64>,
    ) -> Result<i64, FileError> {
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.kind(key, value, value.get_ref(), "a whole number"));
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number.filter(|number| within.contains(number)).ok_or_else(|| {
            let remedy = format!("write a number from {} to {}", within.start(), within.end());
            self.error(value.span(), format!("{} = {integer}", key.get_ref()), remedy)
        })
    }

    pub(super) fn table<'v, 'i>(
        &self,
        name: &str,
        value: &'v Value<'i>,
    ) -> Result<&'v DeTable<'i>, FileError> {
        value.get_ref().as_table().ok_or_else(|| {
            self.error(
                value.span(),
                format!("{name} is no table"),
                format!("begin it with a line [{name}]"),
            )
        })
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables<'v, 'i>(
        &self,
        name: &str,
        value: &'v Value<'i>,
    ) -> Result<Vec<(Range<usize>, &'v DeTable<'i>)>, FileError> {
        let wrong = |at| {
            let remedy = format!("begin each with a line [[{name}]]");
            self.error(at, format!("{name} is no list of tables"), remedy)
        };
        let list = value.get_ref().as_array().ok_or_else(|| wrong(value.span()))?;
        let tables = list.iter().map(|table| {
            let span = table.span();
            table
                .get_ref()
                .as_table()
                .map(|inner| (span, inner))
                .ok_or_else(|| wrong(table.span()))
        });
        tables.collect()
    }

    /// One value, or the values of a list.
    pub(super) fn values<'v, 'i>(
        &self,
        key: &Key<'_>,
        value: &'v Value<'i>,
    ) -> Result<Vec<&'v Value<'i>>, FileError> {
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                let problem = format!("{} is an empty list, which would match nothing", key.get_ref());
                Err(self.error(value.span(), problem, "leave the line out to match all"))
            }
            DeValue::Array(list) => Ok(list.iter().collect()),
            _ => Ok(vec![value]),
        }
    }

    /// A uid, or the uid of a user's name.
    pub(super) fn user(&self, key: &Key<'_>, value: &Value<'_>) -> Result<u32, FileError> {
        if let DeValue::String(name) = value.get_ref() {
            return (self.users)(name).ok_or_else(|| {
                let problem = format!("no user is called {name:?}");
                self.error(
                    value.span(),
                    problem,
                    "write a user of this host, or a uid without quotes",
                )
            });
        }
        let uid = self.integer(key, value, 0..=i64::from(u32::MAX))?;
        Ok(u32::try_from(uid).unwrap_or(u32::MAX))
    }

    pub(super) fn kind(
        &self,
        key: &Key<'_>,
        value: &Value<'_>,
        found: &DeValue<'_>,
        expected: &str,
    ) -> FileError {
        let problem = format!("{} is {}", key.get_ref(), found.type_str());
        self.error(value.span(), problem, format!("write {expected}"))
    }
}

/// The error for a key that is none of `allowed`.
pub(super) fn unknown_key(reader: &Reader<'_>, key: &Key<'_>, place: &str, allowed: &[&str]) -> FileError {
    let word = key.get_ref();
    let problem = format!("{place} has no key {word:?}");
    let nearest = allowed.iter().map(|known| (distance(word, known), known)).min();
    let list = format!("the keys are {}", allowed.join(", "));
    let remedy = match nearest {
        Some((distance, known)) if distance <= 2 => format!("did you mean {known:?}? {list}"),
        _ => list,
    };
    reader.error(key.span(), problem, remedy)
}

/// Levenshtein's distance, in octets; words far longer than any key are not measured.
fn distance(word: &str, known: &str) -> usize {
    if word.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (line, a) in word.bytes().enumerate() {
        let mut left = line + 1;
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), left);
        for (above, b) in row.iter_mut().skip(1).zip(known.bytes()) {
            left = (*above + 1).min(left + 1).min(diagonal + usize::from(a != b));
            diagonal = std::mem::replace(above, left);
        }
    }
    row.last().copied().unwrap_or(word.len())
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_of_words() {
        for (a, b, expected) in [
            ("", "", 0),
            ("rule", "rule", 0),
            ("rules", "rule", 1),
            ("", "abc", 3),
            ("remtoe", "remote", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
