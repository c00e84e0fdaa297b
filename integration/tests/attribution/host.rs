//! What the host calls a file does not depend on the mounts that the resolver itself has.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use integration::{Service, World, eventually};

use crate::{
    ask::{Asker, world},
    identity::{NC_PORT, nc, nc_arguments, udp_flow},
    play::Play,
};

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
fn hardened(world: &mut World) -> Asker {
    let line = format!(
        "mount --make-rprivate /; mount --bind /usr /usr; mount -o remount,bind,ro /usr\n\
         mount -t tmpfs none /home; mount -t tmpfs none /var/tmp; mount -t tmpfs none {}; exec \"$@\"",
        world.root().join("apps").display()
    );
    start(world, &["unshare", "-m", "sh", "-ec", &line, "sh"])
}

fn trusted(path: &Path) -> Option<&Path> {
    Some(path)
}

#[test]
fn a_hardened_resolver_names_programs_as_the_host_does() {
    let mut world = world("hardened");
    let app = world.app("app");
    let mut asker = hardened(&mut world);
    for path in [Path::new("/usr/bin/nc"), app.path()] {
        let path = fs::canonicalize(path).unwrap();
        let line = format!("exec {} {}", path.display(), nc_arguments(&world));
        let (play, process) = nc(&world, &mut asker, &[], &line);
        assert_eq!(process.executable.path.as_deref(), trusted(&path));
        play.kill();
    }
}

#[test]
fn a_hardened_resolver_is_not_deceived_by_a_program_mounted_over_another() {
    let mut world = world("hardposer");
    let (good, evil) = (world.app("trusted"), world.app("evil"));
    let mut asker = hardened(&mut world);
    let pose = |mount: &str| {
        format!(
            "{mount}; exec {t} {}",
            nc_arguments(&world),
            t = good.path().display()
        )
    };
    let bind = format!("mount --bind {} {}", evil.path().display(), good.path().display());
    let (play, process) = nc(&world, &mut asker, &["unshare", "-m"], &pose(&bind));
    assert_eq!(process.executable.path, None);
    assert_eq!(process.executable.claimed_path, good.path());
    play.kill();
    // with the very same mounts as the resolver has
    let line = format!(
        "mount -t tmpfs none {0}; cp /usr/bin/nc {0}/trusted",
        world.root().join("apps").display()
    );
    let (play, process) = nc(&world, &mut asker, &["unshare", "-m"], &pose(&line));
    assert_eq!(process.executable.path, None);
    play.kill();
}

#[test]
fn a_file_that_only_the_resolver_sees_is_not_the_hosts() {
    let mut world = world("inside");
    let app = world.app("app");
    let mut asker = hardened(&mut world);
    // into the resolver's own mounts: there its path is right
    let resolver = world.service(Service::Resolver).pid().as_raw_nonzero().get();
    let line = format!(
        "cp /usr/bin/nc {t}; exec {t} {}",
        nc_arguments(&world),
        t = app.path().display()
    );
    let enter = ["nsenter".to_owned(), format!("--mount=/proc/{resolver}/ns/mnt")];
    let (play, process) = nc(&world, &mut asker, &enter.each_ref().map(String::as_str), &line);
    assert_eq!(process.executable.path, None, "{:?}", process.executable);
    play.kill();
}

#[test]
fn without_a_look_at_pid_1_the_resolver_names_files_as_it_sees_them_and_says_so() {
    let mut world = world("noview");
    let app = world.app("app");
    let limits = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    let mut asker = start(&mut world, &limits);
    let problem = eventually("the resolver complains", || {
        let problems = asker.state().problems;
        problems
            .into_iter()
            .find(|problem| problem.code == "no-host-view")
    });
    assert!(problem.text.contains("CAP_SYS_PTRACE"), "{}", problem.text);
    let mut command = world.host.command("setpriv");
    command.args(limits.iter().skip(1));
    command.arg(app.path()).args(nc_arguments(&world).split(' '));
    let _play = Play::start(command);
    let flow = udp_flow(&world, NC_PORT);
    let process = eventually("nc has its socket", || asker.lookup(flow).ok());
    assert_eq!(process.executable.path.as_deref(), trusted(app.path()));
}
