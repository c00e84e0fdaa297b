//! What the host calls a file does not depend on the mounts that the resolver itself has.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use integration::{Service, World, eventually};

use crate::{
    ask::{Asker, world},
    identity::{nc, nc_arguments},
    play::Play,
};

/// A host with a pid 1 of its own, which the test may look at whatever the machine's pid 1 is. Ends when dropped.
struct Host {
    _first: Play,
    enter: Vec<String>,
}

impl Host {
    fn start(world: &World) -> Self {
        let mut command = world.host.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", "echo ready; sleep 1000; true"]);
        let first = Play::start(command);
        first.hear();
        let children = format!("/proc/{pid}/task/{pid}/children", pid = first.pid());
        let pid = fs::read_to_string(children).unwrap();
        let enter = ["nsenter", "--target", pid.trim(), "--mount", "--pid", "--"];
        Self {
            _first: first,
            enter: enter.map(str::to_owned).to_vec(),
        }
    }

    /// Words before a command that is to run there.
    fn enter<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.enter
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect()
    }
}

/// Starts the resolver behind a wrapper.
fn start(world: &mut World, wrapper: &[&str]) -> Asker {
    let plain = world.service_command(Service::Resolver);
    let mut words = wrapper.iter().map(OsStr::new);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .arg(plain.get_program())
        .args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap());
    }
    world.start_as(Service::Resolver, command);
    Asker::of(world)
}

/// As the service manager hardens it: `/usr` read-only, and folders that are its own; the applications are not to be seen.
fn hardened(world: &mut World, host: &Host, more: &[&str]) -> Asker {
    let line = format!(
        "mount --bind /usr /usr; mount -o remount,bind,ro /usr; mount -t tmpfs none /home; mount -t tmpfs none /var/tmp\n\
         mount -t tmpfs none {}; exec \"$@\"",
        world.root().join("apps").display()
    );
    let wrapper = host.enter(&["unshare", "-m", "sh", "-ec", &line, "sh"]);
    start(world, &[&wrapper, more].concat())
}

fn exec(world: &World, program: &Path) -> String {
    format!("exec {} {}", program.display(), nc_arguments(world))
}

#[test]
fn a_hardened_resolver_names_programs_as_the_host_does() {
    let mut world = world("hardened");
    let app = world.app("app");
    let host = Host::start(&world);
    let mut asker = hardened(&mut world, &host, &[]);
    for path in [Path::new("/usr/bin/nc"), app.path()] {
        let path = fs::canonicalize(path).unwrap();
        let line = exec(&world, &path);
        for wrapper in [&[][..], &["unshare", "-m"][..]] {
            let (play, process) = nc(&world, &mut asker, &host.enter(wrapper), &line);
            let executable = process.executable;
            assert_eq!(
                executable.path.as_ref(),
                Some(&path),
                "{wrapper:?}: {executable:?}"
            );
            play.kill();
        }
    }
    assert!(problem(&mut asker).is_none());
}

#[test]
fn a_hardened_resolver_is_not_deceived_by_a_program_mounted_over_another() {
    let mut world = world("hardposer");
    let (good, evil) = (world.app("trusted"), world.app("evil"));
    let host = Host::start(&world);
    let mut asker = hardened(&mut world, &host, &[]);
    let folder = good.path().parent().unwrap().display();
    let (good, evil) = (good.path(), evil.path().display());
    for mount in [
        format!("mount --bind {evil} {}", good.display()),
        // as the resolver has it
        format!("mount -t tmpfs none {folder}; cp /usr/bin/nc {}", good.display()),
    ] {
        let line = format!("{mount}; {}", exec(&world, good));
        let (play, process) = nc(&world, &mut asker, &host.enter(&["unshare", "-m"]), &line);
        assert_eq!(process.executable.path, None, "{mount}");
        assert_eq!(process.executable.claimed_path, good);
        play.kill();
    }
}

/// The pid that the resolver has inside, as its `nsenter` has it for a child.
fn inside(world: &World) -> String {
    let pid = world.service(Service::Resolver).pid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn a_file_that_only_the_resolver_sees_is_not_the_hosts() {
    let mut world = world("inside");
    let app = world.app("app");
    let host = Host::start(&world);
    let mut asker = hardened(&mut world, &host, &[]);
    // into the resolver's own mounts: there its path is right
    let resolver = inside(&world);
    let enter = ["nsenter", "--target", &resolver, "--mount", "--pid", "--"];
    let line = format!(
        "cp /usr/bin/nc {}; {}",
        app.path().display(),
        exec(&world, app.path())
    );
    let (play, process) = nc(&world, &mut asker, &enter, &line);
    assert_eq!(process.executable.path, None, "{:?}", process.executable);
    play.kill();
}

fn problem(asker: &mut Asker) -> Option<String> {
    let problems = asker.state().problems;
    let problem = problems
        .into_iter()
        .find(|problem| problem.code == "no-host-view");
    problem.map(|problem| problem.text)
}

/// Root, but for looking at processes that may do more.
const LIMITED: [&str; 4] = [
    "setpriv",
    "--bounding-set=-sys_ptrace",
    "--inh-caps=-sys_ptrace",
    "--",
];

#[test]
fn who_may_not_look_at_pid_1_complains_and_still_tells_the_hosts_mounts_from_others() {
    let mut world = world("noview");
    let app = world.app("app");
    let host = Host::start(&world);
    let mut asker = hardened(&mut world, &host, &LIMITED);
    let text = eventually("the resolver complains", || problem(&mut asker));
    assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
    let line = exec(&world, app.path());
    let (play, process) = nc(&world, &mut asker, &host.enter(&LIMITED), &line);
    assert_eq!(process.executable.path.as_deref(), Some(app.path()));
    play.kill();
    let wrapper = host.enter(&[
        "unshare",
        "-m",
        "sh",
        "-ec",
        "mount -t tmpfs none /mnt; exec \"$@\"",
        "sh",
    ]);
    let line = format!("cp /usr/bin/nc /mnt/nc; {}", exec(&world, Path::new("/mnt/nc")));
    let (play, process) = nc(&world, &mut asker, &[&wrapper[..], &LIMITED].concat(), &line);
    assert_eq!(process.executable.path, None, "{:?}", process.executable);
    play.kill();
}

#[test]
fn beside_the_host_s_programs_nobody_needs_to_look_at_pid_1() {
    let mut world = world("beside1");
    let app = world.app("app");
    let host = Host::start(&world);
    let mut asker = start(&mut world, &host.enter(&LIMITED));
    let line = exec(&world, app.path());
    let (play, process) = nc(&world, &mut asker, &host.enter(&LIMITED), &line);
    assert_eq!(process.executable.path.as_deref(), Some(app.path()));
    play.kill();
    assert_eq!(problem(&mut asker), None);
}
