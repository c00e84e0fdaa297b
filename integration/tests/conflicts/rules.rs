//! Rule sets of others, as their programs made them.

use std::io::Write as _;

use integration::Namespace;

use crate::check;

const UFW: &str = include_str!("../../../services/cli/src/check_host/captured/ufw-v4.txt");
const UFW_V6: &str = include_str!("../../../services/cli/src/check_host/captured/ufw-v6.txt");
const DOCKER: &str = include_str!("../../../services/cli/src/check_host/captured/docker-v4.txt");
const OPENSNITCH: &str = include_str!("../../../services/cli/src/check_host/captured/opensnitch-v4.txt");
const FIREWALLD: &str = include_str!("../../../services/cli/src/check_host/captured/firewalld.nft");

/// Has a program in the namespace load a text.
#[track_caller]
fn load(host: &Namespace, program: &[&str], text: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    host.sh(&format!("{} {}", program.join(" "), file.path().display()));
}

#[test]
fn a_host_of_nobodys_has_nothing_in_the_way() {
    let said = check(&Namespace::new("nobody"));
    assert_eq!((said.codes(), said.status), (vec![], Some(0)));
}

#[test]
fn ufw_works_beside_in_both_back_ends() {
    for backend in ["nft", "legacy"] {
        let host = Namespace::new("ufw");
        load(&host, &[&format!("iptables-{backend}-restore")], UFW);
        load(&host, &[&format!("ip6tables-{backend}-restore")], UFW_V6);
        let said = check(&host);
        assert_eq!(
            (said.codes(), said.status),
            (vec![("beside", "other-rules")], Some(0))
        );
        assert!(said.text("other-rules").contains("ufw"));
    }
}

#[test]
fn firewalld_works_beside() {
    let host = Namespace::new("firewalld");
    load(&host, &["nft", "-f"], FIREWALLD);
    let said = check(&host);
    assert_eq!(
        (said.codes(), said.status),
        (vec![("beside", "other-rules")], Some(0))
    );
    assert!(said.text("other-rules").contains("firewalld"));
}

#[test]
fn docker_works_beside() {
    let host = Namespace::new("docker");
    load(&host, &["iptables-nft-restore"], DOCKER);
    let said = check(&host);
    assert_eq!(
        (said.codes(), said.status),
        (vec![("beside", "other-rules")], Some(0))
    );
    assert!(said.text("other-rules").contains("forwarded"));
}

#[test]
fn opensnitchs_rules_clash() {
    let host = Namespace::new("snitch");
    load(&host, &["iptables-nft-restore"], OPENSNITCH);
    let said = check(&host);
    assert_eq!(said.status, Some(2));
    assert!(said.text("queue-skipped").contains("mangle OUTPUT"), "{said:#?}");
}

#[test]
fn rules_in_both_back_ends_are_named() {
    let host = Namespace::new("both");
    host.sh(
        "iptables-nft -A INPUT -p tcp --dport 23 -j DROP; iptables-legacy -A INPUT -p tcp --dport 23 -j DROP",
    );
    let said = check(&host);
    assert!(
        said.text("two-back-ends").contains("iptables-legacy"),
        "{said:#?}"
    );
    assert_eq!(said.status, Some(0));
}

#[test]
fn a_table_that_iptables_cannot_read_is_a_clash() {
    let host = Namespace::new("unread");
    host.sh("nft 'table ip filter { chain mine { type filter hook output priority 0; ip daddr @blocked drop; }; set blocked { type ipv4_addr; }; }'");
    let said = check(&host);
    assert!(
        said.text("table-unreadable").contains("IPv4 table filter"),
        "{said:#?}"
    );
    assert_eq!(said.status, Some(2));
}

#[test]
fn whoever_is_not_root_is_told_what_he_cannot_see() {
    let host = Namespace::new("notroot");
    let mut command = host.command("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    // the program may lie where only root gets
    let copy = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = copy.path().join("portmaster");
    std::fs::copy(integration::binary("portmaster"), &program).unwrap();
    command.arg(program);
    let said = crate::run(command, &[]);
    assert_eq!(said.status, Some(1), "{said:#?}");
    assert!(said.text("queue-held").contains("run this as root"));
}
