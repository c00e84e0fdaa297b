//! Scripts: the interpreter runs them, and they are named by the file.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use integration::{World, process::run};

use crate::{
    ask::{Asker, world},
    identity::{udp, udp_flow},
    play::{PYTHON, Play, script},
};

#[test]
fn another_script_in_the_same_interpreter_is_seen() {
    let mut world = world("script");
    let (first, second) = (world.root().join("first.py"), world.root().join("second.py"));
    script(
        &first,
        &format!(
            "{}; s.set_inheritable(True); wait(); os.chdir('{}'); os.execv('{PYTHON}', ['python3', '-u', 'second.py'])",
            udp(world.link.b.v4),
            world.root().display()
        ),
    );
    script(&second, "say('second')");
    run(Command::new("chmod").arg("+x").arg(&first));
    let mut asker = Asker::start(&mut world);
    let mut play = Play::start(world.host.command(&first));
    let flow = udp_flow(&world, play.number());
    assert_eq!(asker.lookup(flow).unwrap().script, Some(first));
    play.go();
    assert_eq!(play.hear(), "second");
    let after = asker.lookup(flow).unwrap();
    assert_eq!((after.pid, after.script), (play.pid(), Some(second)));
}

#[test]
fn a_shell_script_is_named() {
    let mut world = world("shell");
    let path = world.root().join("fetch.sh");
    let there = world.link.b.v4;
    fs::write(
        &path,
        format!("exec 3<>/dev/udp/{there}/5000; echo ready; while read line; do :; done\n"),
    )
    .unwrap();
    let mut command = world.host.command("bash");
    command.arg(&path);
    let mut asker = Asker::start(&mut world);
    let play = Play::start(command);
    play.hear();
    let ports = world.host.sh("cut -c 17-20 /proc/net/udp | tail -n 1");
    let port = u16::from_str_radix(ports.trim(), 16).unwrap();
    let process = asker.lookup(udp_flow(&world, port)).unwrap();
    assert_eq!((process.pid, process.script), (play.pid(), Some(path)));
}

/// Makes `ROOT/scripts/name`, which opens the flow of [`udp_flow`].
fn sender(world: &World, name: &str) -> PathBuf {
    let folder = world.root().canonicalize().unwrap().join("scripts");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    script(&path, &udp(world.link.b.v4));
    path
}

#[test]
fn a_script_is_named_by_its_file_however_it_is_called() {
    let mut world = world("names");
    let real = sender(&world, "real.py");
    let folder = real.parent().unwrap();
    symlink(&real, folder.join("absolute.py")).unwrap();
    symlink("real.py", folder.join("relative.py")).unwrap();
    let mut asker = Asker::start(&mut world);
    for called in [
        "real.py",
        "./real.py",
        "../scripts/real.py",
        "absolute.py",
        "relative.py",
        "/proc/self/cwd/real.py",
    ] {
        let mut command = world.host.command(PYTHON);
        command.current_dir(folder).arg(called);
        let play = Play::start(command);
        let process = asker.lookup(udp_flow(&world, play.number())).unwrap();
        // what is behind a link of /proc depends on who asks
        let named = (!called.starts_with("/proc")).then(|| real.clone());
        assert_eq!((process.pid, process.script), (play.pid(), named), "{called}");
    }
}

#[test]
fn a_script_in_a_mount_namespace_of_its_own_is_not_the_hosts_of_that_name() {
    let mut world = world("scriptns");
    let (trusted, evil) = (sender(&world, "trusted.py"), sender(&world, "evil.py"));
    let mut asker = Asker::start(&mut world);
    let mut start = |line: &str, called: &str| {
        let mut command = world.host.command("unshare");
        command.args(["-m", "sh", "-ec", &format!("{line}; exec {PYTHON} {called}")]);
        let play = Play::start(command);
        let process = asker.lookup(udp_flow(&world, play.number())).unwrap();
        assert_eq!(process.pid, play.pid());
        process.script
    };
    let (path, evil) = (trusted.display().to_string(), evil.display());
    let mount = format!("mount --bind {evil} {path}");
    assert_eq!(start(&mount, &path), None);
    let within = format!("{mount}; cd {}", trusted.parent().unwrap().display());
    assert_eq!(start(&within, "trusted.py"), None);
    assert_eq!(start("mount -t tmpfs none /mnt", &path), Some(trusted));
}
