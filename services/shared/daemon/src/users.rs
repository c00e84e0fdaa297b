//! Users and groups by name. `/etc/passwd` and `/etc/group` are read, not the name service: a firewall must not ask the
//! network who may talk to it.

use std::fs;

/// A user's id.
pub fn uid(name: &str) -> Option<u32> {
    entry("/etc/passwd", name)?.get(2)?.parse().ok()
}

/// A group's id.
pub fn gid(name: &str) -> Option<u32> {
    entry("/etc/group", name)?.get(2)?.parse().ok()
}

/// Whether the user with this id is in the group, by its entry or as primary group.
pub fn is_member(user: u32, group: &str) -> bool {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = user.to_string();
    let Some(user) = passwd
        .lines()
        .map(fields)
        .find(|fields| fields.get(2) == Some(&id.as_str()))
    else {
        return false;
    };
    let Some(group) = entry("/etc/group", group) else {
        return false;
    };
    let primary = user
        .get(3)
        .is_some_and(|primary| group.get(2).is_some_and(|gid| gid == primary));
    let listed = group
        .get(3)
        .is_some_and(|members| members.split(',').any(|member| user.first() == Some(&member)));
    primary || listed
}

/// The name of the user with this id.
pub fn name(user: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let id = user.to_string();
    let line = passwd
        .lines()
        .map(fields)
        .find(|fields| fields.get(2) == Some(&id.as_str()))?;
    line.first().map(|name| (*name).to_owned())
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn entry(file: &str, name: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .map(fields)
        .find(|fields| fields.first() == Some(&name))?;
    Some(line.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_everywhere() {
        assert_eq!(
            (uid("root"), gid("root"), name(0).as_deref()),
            (Some(0), Some(0), Some("root"))
        );
        assert!(is_member(0, "root"));
        assert!(!is_member(0, "no-such-group") && uid("no-such-user").is_none());
    }
}
