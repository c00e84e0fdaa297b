//! The Debian package on a whole host: installed, upgraded in the middle of traffic, removed, purged.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use integration::{Booted, binary, booted};

use crate::{load, meanwhile};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const UNITS: [&str; 3] = [
    "portmaster-interceptor.service",
    "portmaster-process-resolver.service",
    "portmaster-policy.service",
];

/// The package, of the programs that are tested.
fn package() -> &'static PathBuf {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let programs = binary("portmaster").parent().unwrap().to_owned();
        let out = programs.parent().unwrap().join("packages-tested");
        let _ = fs::remove_dir_all(&out);
        let mut make = Command::new("debian/rules");
        make.arg("binary").current_dir(REPOSITORY);
        make.env("PROGRAMS", &programs)
            .env("OUT", &out)
            .env("BUILDDEB", "-Znone");
        run(&mut make);
        one_of(&out)
    })
}

/// The same as a later version.
fn later(package: &PathBuf) -> PathBuf {
    let folder = package.parent().unwrap().join("later");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let tree = folder.join("tree");
    run(Command::new("dpkg-deb")
        .arg("--raw-extract")
        .arg(package)
        .arg(&tree));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    assert!(text.contains("\nVersion: "), "{text}");
    fs::write(&control, text.replace("\nVersion: ", "\nVersion: 99:")).unwrap();
    // another file than the one that runs, as after any build
    let file = folder.join("portmaster.deb");
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(&tree)
        .arg(&file));
    file
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", booted::text(&output));
}

fn one_of(folder: &PathBuf) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .find(|file| file.extension().is_some_and(|kind| kind == "deb"))
        .unwrap()
}

fn install(host: &Booted, package: &PathBuf) {
    fs::copy(package, host.root().join("root/portmaster.deb")).unwrap();
    host.run("dpkg -i /root/portmaster.deb");
}

fn invocations(host: &Booted, units: &[&str]) -> Vec<String> {
    units
        .iter()
        .map(|unit| host.property(unit, "InvocationID"))
        .collect()
}

#[test]
fn the_package_is_upgraded_without_a_loss_and_goes_as_it_came() {
    let host = load::files(Booted::builder("deb").plain()).start();
    install(&host, package());
    assert_eq!(
        host.property("portmaster.target", "ActiveState"),
        "inactive",
        "a firewall is its owner's to start"
    );
    host.systemctl("start portmaster.target");
    let services = invocations(&host, &UNITS);
    let sockets = [
        "portmaster-interceptor.socket",
        "portmaster-lockdown.service",
        "portmaster.target",
    ];
    let standing = invocations(&host, &sockets);
    // an upgrade goes on being asked for names, a removal puts back who was
    host.run(
        "rm /etc/resolv.conf; echo 'nameserver 192.0.2.53' >/etc/resolv.conf; chmod 640 /etc/resolv.conf",
    );
    let resolver = "stat --format='%F %a %u %g %s %y' /etc/resolv.conf; cat /etc/resolv.conf";
    let asked_before = host.run(resolver);
    host.systemctl("enable portmaster.target");
    host.run("portmaster dns enable");
    let new = later(package());
    let mut step = 0;
    let outcome = meanwhile(&host, "dpkg -i", |host| {
        // there and back again: each is another version
        install(host, if step % 2 == 0 { &new } else { package() });
        step += 1;
    });
    outcome.assert_nothing_lost();
    let upgraded = invocations(&host, &UNITS);
    assert!(
        services
            .iter()
            .zip(&upgraded)
            .all(|(before, after)| before != after),
        "{services:?} {upgraded:?}"
    );
    assert_eq!(invocations(&host, &sockets), standing, "these stand meanwhile");

    host.run("grep -q 127.0.0.17 /etc/resolv.conf");

    assert!(rules(&host).contains("C17"));
    host.systemctl("disable portmaster.target");
    host.run("dpkg --remove portmaster");
    assert_eq!(host.run(resolver), asked_before);
    assert!(!rules(&host).contains("C17"), "rules are left");
    let units = "systemctl list-units --all --no-legend 'portmaster*' | grep -v not-found || true";
    assert_eq!(host.run(units), "");
    host.run("test -d /var/lib/portmaster/policy");
    host.run("dpkg --purge portmaster");
    let left = "find / -xdev \\( -path /proc -o -path /sys -o -path /root -o -path /var/lib/dpkg -o -path /var/log \\) -prune \
        -o -name '*portmaster*' -print";
    assert_eq!(host.run(left), "");
}

fn rules(host: &Booted) -> String {
    host.run("iptables-save; ip6tables-save")
}
