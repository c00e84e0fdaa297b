//! Where things lie: under the system's directories, or all under one root.

use std::path::{Path, PathBuf};

use crate::CommonArgs;

/// Directories of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `/etc/portmaster`
    pub config: PathBuf,
    /// `/run/portmaster`
    pub runtime: PathBuf,
    /// `/var/lib/portmaster/<service>`
    pub state: PathBuf,
}

impl Paths {
    /// As the arguments say.
    pub fn new(args: &CommonArgs, service: &str) -> Self {
        let below = |given: &Option<PathBuf>, standard: &str| {
            given.clone().unwrap_or_else(|| match &args.root {
                Some(root) => root.join(standard.trim_start_matches('/')),
                None => PathBuf::from(standard),
            })
        };
        Self {
            config: below(&args.config_dir, "/etc/portmaster"),
            runtime: below(&args.runtime_dir, "/run/portmaster"),
            state: below(&args.state_dir, "/var/lib/portmaster").join(service),
        }
    }

    /// Where a service listens.
    pub fn socket(&self, service: &str) -> PathBuf {
        socket_in(&self.runtime, service)
    }
}

/// Where a service listens, below a runtime directory.
pub(crate) fn socket_in(runtime: &Path, service: &str) -> PathBuf {
    runtime.join(format!("{service}.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_root_holds_all_and_each_may_be_elsewhere() {
        let mut args = CommonArgs {
            root: Some("/tmp/x".into()),
            ..CommonArgs::default()
        };
        let paths = Paths::new(&args, "policy");
        assert_eq!(paths.config, Path::new("/tmp/x/etc/portmaster"));
        assert_eq!(
            paths.socket("policy"),
            Path::new("/tmp/x/run/portmaster/policy.sock")
        );
        assert_eq!(paths.state, Path::new("/tmp/x/var/lib/portmaster/policy"));
        args.state_dir = Some("/s".into());
        assert_eq!(Paths::new(&args, "policy").state, Path::new("/s/policy"));
        assert_eq!(
            Paths::new(&CommonArgs::default(), "policy").config,
            Path::new("/etc/portmaster")
        );
    }
}
