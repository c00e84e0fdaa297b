//! Users by name: those of /etc/passwd (others go by number).

use std::{collections::HashMap, fs};

/// Name → id.
#[derive(Debug, Default)]
pub(crate) struct Users(HashMap<String, u32>);

impl Users {
    /// Those of this host; none where the file cannot be read.
    pub(crate) fn of_this_host() -> Self {
        Self::parse(&fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    /// passwd(5): `name:password:uid:…`; lines that are not so are left out.
    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?);
            Some((name.to_owned(), uid.parse().ok()?))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// By name or number.
    pub(crate) fn id(&self, user: &str) -> Option<u32> {
        user.parse().ok().or_else(|| self.0.get(user).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_go_by_name_or_number() {
        let users =
            Users::parse("root:x:0:0:root:/root:/bin/sh\n\n# no user\nalice:x:1000:1000::/:\nbad:x:-1:\n");
        assert_eq!(users.id("alice"), Some(1000));
        assert_eq!(users.id("root"), Some(0));
        assert_eq!(users.id("4242"), Some(4242));
        assert_eq!(users.id("bad"), None);
        assert_eq!(users.id("nobody"), None);
    }
}
