//! Users by name: those of /etc/passwd (others go by number).

/// By name or number.
pub(crate) fn id(user: &str) -> Option<u32> {
    user.parse().ok().or_else(|| daemon::users::uid(user))
}

#[cfg(test)]
mod tests {
    #[test]
    fn users_go_by_name_or_number() {
        assert_eq!(super::id("root"), Some(0));
        assert_eq!(super::id("4242"), Some(4242));
        assert_eq!(super::id("nobody of that name"), None);
        assert_eq!(super::id("-1"), None);
    }
}
