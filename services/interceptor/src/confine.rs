//! The thread that parses packets shuts itself in: no file, no program, no network but netlink and Unix sockets.
//!
//! Landlock (`Documentation/userspace-api/landlock.rst`) takes files and TCP away; seccomp (`seccomp(2)`) the system calls by
//! which it could get at either another way. Both hold for this thread and what it starts, for ever; other threads go on to run
//! `iptables-restore`. What is open already stays usable: queues, conntrack, the log.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus, Scope,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Everything that Landlock could take away in this version, where the kernel knows it.
const LANDLOCK: ABI = ABI::V6;

/// Calls that a reader of packets never makes.
const FORBIDDEN: &[libc::c_long] = &[
    // programs and other processes
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_send_signal,
    // files, beside what Landlock denies
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    // other ways to the kernel
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// Confines the calling thread; gives what could not be done. A kernel without Landlock or seccomp is no reason not to decide.
pub fn this_thread() -> Vec<String> {
    let landlock = take_files()
        .map_err(|error| error.to_string())
        .and_then(|status| match status {
            RulesetStatus::NotEnforced => Err("this kernel has no Landlock".to_owned()),
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
        });
    let seccomp = forbid_calls().map_err(|error| error.to_string());
    [("landlock", landlock), ("seccomp", seccomp)]
        .into_iter()
        .filter_map(|(what, done)| done.err().map(|error| format!("{what}: {error}")))
        .collect()
}

fn take_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        // no rule: nothing is allowed
        .restrict_self()?;
    Ok(status.ruleset)
}

fn forbid_calls() -> Result<(), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, vec![foreign_families()?]);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let target = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, target)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

/// Any socket but those of the mesh and of netlink.
fn foreign_families() -> Result<SeccompRule, BackendError> {
    let not = |family: libc::c_int| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    SeccompRule::new(vec![not(libc::AF_UNIX)?, not(libc::AF_NETLINK)?])
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::ErrorKind,
        net::{TcpStream, UdpSocket},
        os::unix::net::UnixStream,
        process::Command,
        thread,
    };

    #[test]
    fn the_thread_that_reads_packets_reaches_neither_files_nor_network() {
        let confined = thread::spawn(|| {
            let weaker = super::this_thread();
            (
                weaker,
                File::open("/etc/passwd")
                    .map_err(|error| error.kind())
                    .map(|_| ()),
                File::create(std::env::temp_dir().join("pm-confined"))
                    .map_err(|error| error.kind())
                    .map(|_| ()),
                Command::new("/bin/true")
                    .spawn()
                    .map_err(|error| error.kind())
                    .map(|_| ()),
                UdpSocket::bind("127.0.0.1:0")
                    .map_err(|error| error.kind())
                    .map(|_| ()),
                TcpStream::connect("127.0.0.1:9")
                    .map_err(|error| error.kind())
                    .map(|_| ()),
                UnixStream::pair().map(|_| ()).map_err(|error| error.kind()),
                crate::conntrack::Conntrack::open().map(|_| ()).is_ok(),
            )
        });
        let (weaker, read, write, run, udp, tcp, unix, netlink) = confined.join().unwrap();
        let denied = Err(ErrorKind::PermissionDenied);
        assert_eq!(weaker, [""; 0], "this kernel has both");
        assert_eq!(
            (read, write, run, udp, tcp),
            (denied, denied, denied, denied, denied)
        );
        assert_eq!((unix, netlink), (Ok(()), true));
        // the others go on
        assert!(File::open("/etc/passwd").is_ok());
    }
}
