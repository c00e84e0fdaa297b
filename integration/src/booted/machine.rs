//! systemd-nspawn, on a machine whose own pid 1 need not be systemd.
//!
//! The root is an overlay in a mount namespace of nspawn's own: it ends with it, however that ends. A cgroup of its own
//! is made by hand where there is no systemd to do it; the next host to boot sweeps up those of tests that were killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    Namespace, Running,
    namespace::{left_behind, maker},
    wait::eventually,
};

/// In them, systemd as pid 1 of a container keeps its units: named hierarchy and unified one, as far as they are there.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
/// A boot takes a second; on a machine that does other things too, some more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it is made of.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) namespace: &'a Namespace,
    /// Folders that lie over each other, topmost first.
    pub(super) layers: Vec<PathBuf>,
    /// The topmost.
    pub(super) own: TempDir,
    /// What is seen where inside, read-only.
    pub(super) binds: Vec<(PathBuf, &'static str)>,
}

/// A running container. Killed when dropped.
#[derive(Debug)]
pub(super) struct Machine {
    nspawn: Running,
    leader: Pid,
    name: String,
    console: PathBuf,
    _own: TempDir,
    _work: TempDir,
}

/// # Panics
/// Where this machine cannot boot containers, with the remedy.
pub(super) fn require() {
    for (program, package) in [
        ("systemd-nspawn", "systemd-container"),
        ("debootstrap", "debootstrap"),
    ] {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            found.is_ok(),
            "this test boots a container and {program} is not there: apt-get install {package} (`make setup`)"
        );
    }
    assert!(
        has_systemd() || hierarchies().next().is_some(),
        "this test boots a container, which needs systemd as pid 1 of this machine, or cgroups at {}: mount them, or \
         run it elsewhere",
        HIERARCHIES.join(" and ")
    );
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

fn hierarchies() -> impl Iterator<Item = &'static Path> {
    HIERARCHIES
        .map(Path::new)
        .into_iter()
        .filter(|path| path.join("cgroup.procs").exists())
}

const BOOT: &str = r#"
work=$1 layers=$2 name=$3; shift 3
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$layers,upperdir=$work/upper,workdir=$work/work" "$work/root"
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -d "$hierarchy/$name" ]; then echo $$ >"$hierarchy/$name/cgroup.procs"; fi
done
exec systemd-nspawn --directory="$work/root" --machine="$name" "$@"
"#;

impl Machine {
    #[track_caller]
    pub(super) fn boot(plan: Plan<'_>) -> Self {
        let name = plan.namespace.name().to_owned();
        sweep();
        let work = folder();
        let console = plan.own.path().with_extension("console");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        // sysctls of its network are the host's own
        command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        command.args(["unshare", "--mount", "--propagation", "private", "--"]);
        let layers: Vec<_> = plan
            .layers
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        command.args(["sh", "-ec", BOOT, "boot"]);
        command.arg(work.path()).arg(layers.join(":")).arg(&name);
        command.args([
            "--boot",
            "--register=no",
            "--console=read-only",
            "--resolv-conf=off",
            "--link-journal=no",
        ]);
        command.args([
            "--timezone=off",
            "--capability=all",
            // the wall clock is the machine's: there is one for all containers
            "--drop-capability=CAP_SYS_TIME",
            "--system-call-filter=bpf perf_event_open landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        ]);
        command.arg(format!(
            "--network-namespace-path={}",
            plan.namespace.path().display()
        ));
        for (from, to) in &plan.binds {
            command.arg(format!("--bind-ro={}:{to}", from.display()));
        }
        if !has_systemd() {
            command.arg("--keep-unit");
            for hierarchy in hierarchies() {
                let own = hierarchy.join(&name);
                fs::create_dir_all(&own).unwrap_or_else(|error| panic!("make {}: {error}", own.display()));
            }
        }
        let mut nspawn = Running::start_logged(&name, command, &console);
        let leader = leader(&mut nspawn);
        let mut machine = Self {
            nspawn,
            leader,
            name,
            console,
            _own: plan.own,
            _work: work,
        };
        machine.wait_for_boot();
        machine
    }

    #[track_caller]
    fn wait_for_boot(&mut self) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.nspawn.ended() {
                panic!(
                    "the container ended with {status} while it booted:\n{}",
                    self.console()
                );
            }
            let mut command = Command::new("nsenter");
            command.arg(format!("--target={}", self.leader.as_raw_nonzero()));
            command.args(["--all", "--root", "--wd", "systemctl", "is-system-running"]);
            let state = command.output().expect("start nsenter").stdout;
            if matches!(String::from_utf8_lossy(&state).trim(), "running" | "degraded") {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the container does not get up:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub(super) const fn leader(&self) -> Pid {
        self.leader
    }

    /// All of its processes at once, pid 1 among them, as a host that is suspended (cgroups(7), freezer); or on again.
    #[track_caller]
    pub(super) fn freeze(&self, frozen: bool) {
        let root = cgroup(self.leader);
        let write = fs::write(root.join("cgroup.freeze"), if frozen { "1" } else { "0" });
        write.unwrap_or_else(|error| panic!("freeze {}: {error}", root.display()));
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        eventually(wanted, || {
            let events = fs::read_to_string(root.join("cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == wanted).then_some(())
        });
    }

    pub(super) fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// `halt.target` asked by signal 4 after the first of the real-time ones: power off (`systemd(1)`).
    pub(super) fn power_off(&mut self) {
        let number = self.leader.as_raw_nonzero().to_string();
        let _gone = Command::new("kill").args(["-s", "SIGRTMIN+4", &number]).status();
        self.nspawn.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // what is frozen does not die; a test that failed may leave it so
        let _thawed = fs::write(cgroup(self.leader).join("cgroup.freeze"), "0");
        // with its pid 1 all of the container ends, and nspawn tidies up after it
        let _gone = kill_process(self.leader, Signal::KILL);
        let start = Instant::now();
        while self.nspawn.ended().is_none() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        tidy(&self.name);
        let _gone = fs::remove_file(&self.console);
    }
}

/// That of the whole container in the unified hierarchy: its pid 1 is in `init.scope` of it.
fn cgroup(leader: Pid) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", leader.as_raw_nonzero())).unwrap_or_default();
    let group = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(Path::new)
        .into_iter()
        .find(|mount| mount.join("cgroup.procs").exists());
    mount
        .unwrap_or(Path::new("/sys/fs/cgroup"))
        .join(group.strip_suffix("/init.scope").unwrap_or(group))
}

/// The container's pid 1 is nspawn's child that has a mount namespace and a pid namespace of its own.
#[track_caller]
fn leader(nspawn: &mut Running) -> Pid {
    let pid = nspawn.pid().as_raw_nonzero();
    eventually("the container has a first process", || {
        if let Some(status) = nspawn.ended() {
            panic!("nspawn ended with {status}:\n{}", nspawn.output());
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .find(|child| is_init(*child))
            .and_then(Pid::from_raw)
    })
}

/// It has the number 1 in its innermost namespace, and executes what a host executes first.
fn is_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .unwrap_or_default();
    let inner = line.split_whitespace().last() == Some("1");
    inner && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("systemd"))
}

/// Removes what stays behind of a host. Best effort: a failing teardown must not hide the test's own failure.
fn tidy(name: &str) {
    for hierarchy in hierarchies() {
        for _ in 0..100 {
            remove_cgroups(&hierarchy.join(name));
            if !hierarchy.join(name).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let _gone = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(name));
}

const FOLDER: &str = "pm-booted-";

/// A folder that ends with the test; that of one that was killed ends with the next.
pub(super) fn folder() -> TempDir {
    TempDir::with_prefix(format!("{FOLDER}{}-", std::process::id())).expect("make a temporary folder")
}

/// Of tests that were killed.
fn sweep() {
    sweep_cgroups();
    let maker = |name: &str| name.strip_prefix(FOLDER)?.split_once('-')?.0.parse().ok();
    for name in left_behind(&std::env::temp_dir(), maker) {
        let path = std::env::temp_dir().join(name);
        let _gone = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
}

fn sweep_cgroups() {
    for hierarchy in hierarchies() {
        for name in left_behind(hierarchy, maker) {
            tidy(&name);
        }
    }
}

/// Deepest first; only folders can be removed in there, and only where nobody is in them.
fn remove_cgroups(path: &Path) {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _busy = fs::remove_dir(path);
}
