//! What a host looks like that has booted.

use integration::Booted;

#[test]
fn a_host_boots_and_every_unit_of_ours_runs() {
    let host = Booted::start("boot");
    assert_eq!(host.property("portmaster.target", "ActiveState"), "active");
    assert_eq!(host.systemctl("--failed --no-legend --plain"), "");
    for unit in [
        "lockdown.service",
        "interceptor.service",
        "process-resolver.service",
        "policy.service",
    ] {
        assert_eq!(
            host.property(&format!("portmaster-{unit}"), "ActiveState"),
            "active",
            "{unit}"
        );
    }
    assert_eq!(
        host.run("portmaster status >/dev/null; echo $?"),
        "0\n",
        "{}",
        host.run("portmaster status || true")
    );
}
