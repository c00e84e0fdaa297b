//! The RPM on a whole host: installed, verified, upgraded in the middle of traffic, removed. Its scripts run under the real
//! `rpm` and a real systemd; what the distribution's own packages are called is not checked (`--nodeps`), since this host is
//! a Debian.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use integration::{Booted, binary, booted};

use crate::{load, meanwhile};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SERVICES: [&str; 6] = [
    "portmaster-interceptor.service",
    "portmaster-process-resolver.service",
    "portmaster-policy.service",
    "portmaster-dns.service",
    "portmaster-gate17-entry.service",
    "portmaster-api-gateway.service",
];
const UNITS: &str = "systemctl list-units --all --no-legend 'portmaster*' | grep -v not-found || true";

/// Two releases, of the programs that are tested.
fn packages() -> &'static [PathBuf; 2] {
    static PACKAGES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let programs = binary("portmaster").parent().unwrap().to_owned();
        let out = programs.parent().unwrap().join("rpm-tested");
        let _ = fs::remove_dir_all(&out);
        ["1", "2"].map(|release| build(&programs, &out, release))
    })
}

fn build(programs: &Path, out: &Path, release: &str) -> PathBuf {
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--build-in-place", "packaging/portmaster.spec"]);
    let defines = [
        format!("_topdir {}", out.join("top").display()),
        format!("_rpmdir {}", out.display()),
        format!("programs {}", programs.display()),
        format!("release {release}"),
        // of the host that it is for
        "systemd 252".to_owned(),
        "_binary_payload w0.gzdio".to_owned(),
    ];
    for define in &defines {
        build.args(["--define", define]);
    }
    let output = build
        .current_dir(REPOSITORY)
        .output()
        .unwrap_or_else(|error| panic!("start rpmbuild: {error}: apt-get install rpm (`make setup`)"));
    assert!(output.status.success(), "{}", booted::text(&output));
    let package = out.join(format!(
        "{}/portmaster-0.1.0-{release}.{}.rpm",
        std::env::consts::ARCH,
        std::env::consts::ARCH
    ));
    assert!(
        package.exists(),
        "{}: {}",
        package.display(),
        booted::text(&output)
    );
    package
}

/// Gives what rpm and the scripts said.
fn install(host: &Booted, package: &Path) -> String {
    fs::copy(package, host.root().join("root/portmaster.rpm")).unwrap();
    booted::text(
        &host.attempt("rpm --force-debian --upgrade --nodeps /root/portmaster.rpm || echo rpm failed"),
    )
}

fn invocations(host: &Booted, units: &[&str]) -> Vec<String> {
    units
        .iter()
        .map(|unit| host.property(unit, "InvocationID"))
        .collect()
}

#[test]
fn the_rpm_is_upgraded_without_a_loss_and_goes_as_it_came() {
    let [first, second] = packages();
    let host = load::files(Booted::builder("rpm").plain().packages(&["rpm"])).start();
    let said = install(&host, first);
    assert!(!said.contains("failed") && !said.contains("warning"), "{said}");
    // what lies there is what was packed, with owners and modes
    let verified = booted::text(&host.attempt("rpm --verify --nodeps portmaster"));
    assert_eq!(verified, "");
    host.run("portmaster --version; man=/usr/share/man/man1/portmaster.1; test -s $man -o -s $man.gz");
    for user in [
        "interceptor",
        "process-resolver",
        "policy",
        "dns",
        "gate17-entry",
        "api-gateway",
    ] {
        let groups = host.run(&format!("id -nG portmaster-{user}"));
        assert_eq!(groups.trim(), format!("portmaster-{user} portmaster"));
    }
    assert_eq!(
        host.run("stat --format='%a %U %G' /run/portmaster").trim(),
        "750 root portmaster"
    );
    assert_eq!(
        host.property("portmaster.target", "ActiveState"),
        "inactive",
        "a firewall is its owner's to start"
    );
    host.systemctl("enable --now portmaster.target");
    for unit in SERVICES {
        host.wait_for(unit, "active");
    }
    let (services, rules) = (invocations(&host, &SERVICES), invocations(&host, &STANDING));

    let mut step = 0;
    let outcome = meanwhile(&host, "rpm --upgrade", |host| {
        // a package of the same release is not taken for an upgrade: there and back
        let (package, more) = if step % 2 == 0 {
            (second, "")
        } else {
            (first, "--oldpackage")
        };
        fs::copy(package, host.root().join("root/portmaster.rpm")).unwrap();
        let said = host.run(&format!(
            "rpm --force-debian --upgrade {more} --nodeps /root/portmaster.rpm 2>&1"
        ));
        assert_eq!(said, "");
        step += 1;
    });
    outcome.assert_nothing_lost();
    let upgraded = invocations(&host, &SERVICES);
    assert!(
        services
            .iter()
            .zip(&upgraded)
            .all(|(before, after)| before != after),
        "{services:?} {upgraded:?}"
    );
    assert_eq!(invocations(&host, &STANDING), rules, "these stand meanwhile");
    assert_eq!(host.systemctl("is-enabled portmaster.target"), "enabled\n");

    // what the owner changed stays, also after the end
    host.run("echo '# mine' >>/etc/portmaster/profiles.d/ssh.toml");
    assert!(host.run("iptables-save; ip6tables-save").contains("C17"));
    let said = host.run("rpm --force-debian --erase portmaster 2>&1");
    assert!(said.contains("ssh.toml.rpmsave"), "{said}");
    assert!(
        !host.run("iptables-save; ip6tables-save").contains("C17"),
        "rules are left"
    );
    assert_eq!(host.run(UNITS), "");
    assert_eq!(
        host.systemctl("list-unit-files --no-legend 'portmaster*' || true"),
        ""
    );
    host.run("test -d /var/lib/portmaster/policy; grep -q mine /etc/portmaster/profiles.d/ssh.toml.rpmsave");
    // users stay, as everywhere with rpm: their numbers own what is kept
    let left = "find / -xdev \\( -path /proc -o -path /sys -o -path /root -o -path /var/lib -o -path /var/log \\) -prune \
        -o -name '*portmaster*' -print";
    assert_eq!(host.run(left), "/etc/portmaster\n");
}

/// What an upgrade does not touch.
const STANDING: [&str; 3] = [
    "portmaster-interceptor.socket",
    "portmaster-lockdown.service",
    "portmaster.target",
];
