//! Who a process is: what it cannot choose, as the host sees it.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use integration::{World, eventually, process::run};
use verdict::{Flow, Process, Protocol};

use crate::{
    ask::{Asker, outgoing, world},
    play::{PYTHON, Play},
};

/// Programs that are no interpreters get their socket from `nc`, bound to this port.
pub(crate) const NC_PORT: u16 = 5999;

/// Opens a connected UDP socket and says its port.
pub(crate) fn udp(there: Ipv4Addr) -> String {
    format!("s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); say(port(s))")
}

pub(crate) fn udp_flow(world: &World, port: u16) -> Flow {
    outgoing(Protocol::UDP, (world.link.a.v4, port), (world.link.b.v4, 5000))
}

/// Arguments of `nc` for a socket with the flow `udp_flow(NC_PORT)`.
pub(crate) fn nc_arguments(world: &World) -> String {
    format!("-u -p {NC_PORT} {} 5000", world.link.b.v4)
}

/// Starts a shell line in the host's namespace and waits for the flow of the `nc` that it becomes.
pub(crate) fn nc(world: &World, asker: &mut Asker, wrapper: &[&str], line: &str) -> (Play, Process) {
    let mut command = world.host.command(wrapper.first().copied().unwrap_or("sh"));
    command.args(wrapper.iter().skip(1));
    if !wrapper.is_empty() {
        command.arg("sh");
    }
    command.args(["-ec", line]);
    let play = Play::start(command);
    let flow = udp_flow(world, NC_PORT);
    let process = eventually("nc has its socket", || asker.lookup(flow).ok());
    (play, process)
}

/// Where its file is, as `stat` says it.
fn place(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).unwrap();
    (metadata.dev(), metadata.ino())
}

fn place_of(process: &Process) -> (u64, u64) {
    (process.executable.device, process.executable.inode)
}

/// The 22nd field of `stat`, and link targets, read as a person would.
pub(crate) fn proc_line(pid: u32, script: &str) -> String {
    run(Command::new("sh").args(["-ec", &format!("cd /proc/{pid}; {script}")]))
        .trim()
        .to_owned()
}

#[test]
fn a_process_is_described_as_the_kernel_has_it() {
    let mut world = world("whole");
    let mut asker = Asker::start(&mut world);
    let play = Play::python(
        &world,
        &format!("os.setgid(65534); os.setuid(65534); {}", udp(world.link.b.v4)),
    );
    let process = asker.lookup(udp_flow(&world, play.number())).unwrap();
    let python = fs::canonicalize(PYTHON).unwrap();
    assert_eq!((process.pid, process.uid), (play.pid(), 65_534));
    assert_eq!(process.executable.path.as_deref(), Some(python.as_path()));
    assert_eq!(place_of(&process), place(&python));
    assert!(!process.executable.deleted && process.script.is_none());
    let number = |script: &str| proc_line(play.pid(), script).parse::<u64>().unwrap();
    assert_eq!(process.start_time, number("cut -d' ' -f22 stat"));
    assert_eq!(process.network_namespace, number("readlink ns/net | tr -dc 0-9"));
    assert_eq!(process.mount_namespace, number("readlink ns/mnt | tr -dc 0-9"));
    assert_eq!(process.comm, "python3");
    assert_eq!(process.cmdline.first().map(String::as_str), Some(PYTHON));
    let parent = process.parents.first().unwrap();
    assert_eq!(
        (parent.pid, parent.path.as_path()),
        (std::process::id(), std::env::current_exe().unwrap().as_path())
    );
}

#[test]
fn a_program_mounted_over_another_is_not_that_one() {
    let mut world = world("impostor");
    let (trusted, evil) = (world.app("trusted"), world.app("evil"));
    let mut asker = Asker::start(&mut world);
    let line = format!(
        "mount --bind {} {t}; exec {t} {}",
        evil.path().display(),
        nc_arguments(&world),
        t = trusted.path().display()
    );
    let (_play, process) = nc(&world, &mut asker, &["unshare", "-m"], &line);
    assert_eq!(process.executable.path, None, "its path is of its own making");
    assert_eq!(process.executable.claimed_path, trusted.path());
    assert_eq!(place_of(&process), place(evil.path()));
}

/// Another mount namespace is entered only to get at the impostor's file: the process itself lives in the host's.
fn by_descriptor(world: &World, asker: &mut Asker, mount: &str, more: &str) -> Process {
    let (trusted, evil) = (world.app("trusted"), world.app("evil"));
    let (trusted, evil) = (trusted.path().display(), evil.path().display());
    let mut command = world.host.command("unshare");
    let line = mount
        .replace("EVIL", &evil.to_string())
        .replace("TRUSTED", &trusted.to_string());
    command.args(["-m", "sh", "-ec", &format!("{line}; echo ready; sleep 1000")]);
    let holder = Play::start(command);
    holder.hear();
    let code = format!(
        "fd = os.open('/proc/{}/root{trusted}', os.O_RDONLY); {}\n\
         os.execve(fd, '{trusted} {}'.split(), os.environ)",
        holder.pid(),
        more.replace("TRUSTED", &format!("/proc/{}/root{trusted}", holder.pid())),
        nc_arguments(world),
    );
    let _play = Play::python(world, &code);
    let flow = udp_flow(world, NC_PORT);
    eventually("nc has its socket", || asker.lookup(flow).ok())
}

#[test]
fn a_program_executed_out_of_another_mount_namespace_is_not_what_it_is_called_there() {
    let mut world = world("fexec");
    let mut asker = Asker::start(&mut world);
    let process = by_descriptor(&world, &mut asker, "mount --bind EVIL TRUSTED", "");
    assert_eq!(process.executable.path, None, "{:?}", process.executable);
}

#[test]
fn a_removed_program_out_of_another_mount_namespace_is_not_what_it_was_called_there() {
    let mut world = world("fexecdel");
    let mut asker = Asker::start(&mut world);
    let process = by_descriptor(
        &world,
        &mut asker,
        "mount -t tmpfs none $(dirname TRUSTED); cp /usr/bin/nc TRUSTED",
        "os.unlink('TRUSTED')",
    );
    assert_eq!(process.executable.path, None, "{:?}", process.executable);
}

#[test]
fn a_program_without_a_file_has_no_path() {
    let mut world = world("memfd");
    let mut asker = Asker::start(&mut world);
    let code = format!(
        "fd = os.memfd_create('nc'); os.write(fd, open('/usr/bin/nc', 'rb').read())\n\
         os.execve(fd, 'nc {}'.split(), os.environ)",
        nc_arguments(&world)
    );
    let _play = Play::python(&world, &code);
    let flow = udp_flow(&world, NC_PORT);
    let process = eventually("nc has its socket", || asker.lookup(flow).ok());
    assert_eq!(process.executable.path, None, "{:?}", process.executable);
}

#[test]
fn the_same_file_in_a_mount_namespace_of_its_own_is_that_program() {
    let mut world = world("private");
    let app = world.app("app");
    let mut asker = Asker::start(&mut world);
    let line = format!(
        "mount -t tmpfs none /mnt; exec {} {}",
        app.path().display(),
        nc_arguments(&world)
    );
    let (_play, process) = nc(&world, &mut asker, &["unshare", "-m"], &line);
    assert_eq!(process.executable.path.as_deref(), Some(app.path()));
}

#[test]
fn a_program_replaced_while_it_runs_keeps_its_path() {
    let mut world = world("upgrade");
    let app = world.app("app");
    let mut asker = Asker::start(&mut world);
    let line = format!("exec {} {}", app.path().display(), nc_arguments(&world));
    let (play, before) = nc(&world, &mut asker, &[], &line);
    assert!(!before.executable.deleted);
    let new = app.path().with_extension("new");
    fs::copy("/usr/bin/nc", &new).unwrap();
    fs::rename(&new, app.path()).unwrap();
    let after = asker.lookup(udp_flow(&world, NC_PORT)).unwrap();
    assert_eq!((after.pid, after.start_time), (play.pid(), before.start_time));
    assert_eq!(after.executable.path.as_deref(), Some(app.path()));
    assert!(after.executable.deleted);
    assert_ne!(
        place_of(&after),
        place(app.path()),
        "the file there is another one"
    );
}

#[test]
fn another_program_in_the_same_process_is_seen() {
    let mut world = world("exec");
    let sleeper = world.root().join("sleeper");
    fs::copy("/usr/bin/sleep", &sleeper).unwrap();
    let mut asker = Asker::start(&mut world);
    let mut play = Play::python(
        &world,
        &format!(
            "{}; s.set_inheritable(True); wait(); os.execv('{}', ['sleep', '1000'])",
            udp(world.link.b.v4),
            sleeper.display()
        ),
    );
    let flow = udp_flow(&world, play.number());
    let before = asker.lookup(flow).unwrap();
    assert_eq!(before.executable.path, fs::canonicalize(PYTHON).ok());
    play.go();
    let link = format!("/proc/{}/exe", play.pid());
    eventually("it executes another program", || {
        (fs::read_link(&link).ok()? == sleeper).then_some(())
    });
    let after = asker.lookup(flow).unwrap();
    assert_eq!((after.pid, after.start_time), (before.pid, before.start_time));
    assert_eq!(after.executable.path.as_deref(), Some(sleeper.as_path()));
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut world = world("reuse");
    let there = world.link.b.v4;
    let mut asker = Asker::start(&mut world);
    // clone3(2) with set_tid: the kernel gives the second child the first one's pid
    let code = format!(
        "libc = ctypes.CDLL(None, use_errno=True)\n\
         def clone(tid):\n\
         \x20 tids = (ctypes.c_int32 * 1)(tid)\n\
         \x20 words = struct.pack('11Q', 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(tids) if tid else 0, 1 if tid else 0, 0)\n\
         \x20 pid = libc.syscall(435, ctypes.create_string_buffer(words), 88)\n\
         \x20 if pid < 0: raise OSError(ctypes.get_errno(), 'clone3')\n\
         \x20 return pid\n\
         def child(name):\n\
         \x20 s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); s.set_inheritable(True); say(port(s))\n\
         \x20 os.execv('/usr/bin/sleep', [name, '1000'])\n\
         pid = clone(0)\n\
         if pid == 0: child('first')\n\
         say(pid); wait(); os.kill(pid, 9); os.waitpid(pid, 0)\n\
         if clone(pid) == 0: child('second')\n\
         say('cloned')"
    );
    let mut play = Play::python(&world, &code);
    let words = [play.number::<u32>(), play.number()];
    let named = |asker: &mut Asker, port: u32, name: &str| {
        let flow = udp_flow(&world, u16::try_from(port).unwrap());
        eventually(&format!("{name} executes"), || {
            let process = asker.lookup(flow).ok()?;
            (process.cmdline.first()? == name).then_some(process)
        })
    };
    // either line may come first
    let first = words.iter().find_map(|word| {
        let flow = udp_flow(&world, u16::try_from(*word).ok()?);
        asker.lookup(flow).ok().map(|_| *word)
    });
    let first = named(&mut asker, first.unwrap(), "first");
    play.go();
    let lines = [play.hear(), play.hear()];
    let port = lines.iter().find_map(|line| line.parse().ok()).unwrap();
    let second = named(&mut asker, port, "second");
    assert_eq!(second.pid, first.pid, "the pid was reused");
    assert_eq!(first.executable.path, second.executable.path);
}

#[test]
fn a_program_has_its_files_hash() {
    let mut world = world("hash");
    let app = world.app("app");
    let mut asker = Asker::start(&mut world);
    let line = format!("exec {} {}", app.path().display(), nc_arguments(&world));
    let (play, without) = nc(&world, &mut asker, &[], &line);
    assert_eq!(without.executable.sha256, None, "nobody asked for it");
    let printed = run(Command::new("sha256sum").arg("/usr/bin/nc"));
    // the running file counts, not what stands at its path by now
    fs::remove_file(app.path()).unwrap();
    fs::write(app.path(), "another").unwrap();
    let hash = asker.hashed(play.pid()).unwrap().executable.sha256.unwrap();
    let hash: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(Some(hash.as_str()), printed.split(' ').next());
}
