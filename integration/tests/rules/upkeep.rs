//! The rules stay as they are, and go when they are told to.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use integration::{Namespace, Service, World, binary, eventually};
use interceptor::firewall::{Backend, BackendChoice, Config, Firewall, RejectTcp, Report, cleanup};
use tokio_util::sync::CancellationToken;
use verdict::{mark::MarkScheme, ruleset::Family};

use crate::host::{BACKENDS, apply, config, inside, verify};

const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];

fn suffix(backend: BackendChoice) -> &'static str {
    match backend {
        BackendChoice::Legacy => "legacy",
        _ => "nft",
    }
}

fn saved(namespace: &Namespace, backend: BackendChoice) -> String {
    let save = |program: &str| namespace.sh(&format!("{program}-{}-save 2>/dev/null", suffix(backend)));
    PROGRAMS
        .map(save)
        .join("\n")
        .lines()
        .filter(|line| line.starts_with("-A"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn clean(namespace: &Namespace) -> Vec<(Backend, Family)> {
    inside(namespace, || async {
        cleanup(Path::new("/nonexistent")).await.unwrap().from
    })
}

#[test]
fn loading_twice_is_loading_once_and_removing_twice_is_no_error() {
    for backend in BACKENDS {
        let host = Namespace::new("upkeep");
        let others = format!(
            "iptables-{0} -A OUTPUT -p udp -j ACCEPT; ip6tables-{0} -t nat -A OUTPUT -j RETURN",
            suffix(backend)
        );
        host.sh(&others);
        let before = saved(&host, backend);
        apply(&host, &config(backend), MarkScheme::default());
        assert_eq!(verify(&host, &config(backend)), []);
        let once = saved(&host, backend);
        apply(&host, &config(backend), MarkScheme::default());
        assert_eq!(saved(&host, backend), once);
        assert_eq!(clean(&host).len(), 2);
        assert_eq!(saved(&host, backend), before);
        assert_eq!(clean(&host), []);
    }
}

#[test]
fn another_configuration_replaces_the_earlier_one() {
    for backend in BACKENDS {
        let host = Namespace::new("upkeep");
        let other = Config {
            reject_tcp_with: RejectTcp::Icmp,
            gate17_v4: "127.0.0.18:718".parse().unwrap(),
            ..config(backend)
        };
        apply(&host, &other, MarkScheme::new(0x07ff_0000, 16).unwrap());
        apply(&host, &config(backend), MarkScheme::default());
        assert_eq!(verify(&host, &config(backend)), []);
        clean(&host);
        assert_eq!(saved(&host, backend), "");
    }
}

#[test]
fn rules_never_stay_behind_in_the_other_back_end() {
    let host = Namespace::new("upkeep");
    let [nft, legacy] = BACKENDS;
    for (one, other) in [(nft, legacy), (legacy, nft)] {
        apply(&host, &config(one), MarkScheme::default());
        apply(&host, &config(other), MarkScheme::default());
        assert_eq!(saved(&host, one), "");
        assert_eq!(verify(&host, &config(other)), []);
    }
}

#[test]
fn removal_copes_with_what_others_left_of_the_rules() {
    for backend in BACKENDS {
        let host = Namespace::new("upkeep");
        apply(&host, &config(backend), MarkScheme::default());
        let program = format!("iptables-{}", suffix(backend));
        host.sh(&format!(
            "{program} -F C17; {program} -t mangle -D INPUT -j C171; {program} -N THEIRS; {program} -A THEIRS -g C17; \
             {program} -t nat -F; {program} -A OUTPUT -s 10.0.0.0/8 -j C17"
        ));
        clean(&host);
        assert!(!saved(&host, backend).contains("C17"));
        assert_eq!(clean(&host), []);
    }
}

#[test]
fn the_program_prints_rules_that_can_be_loaded_and_needs_no_privileges() {
    let (host, folder) = (Namespace::new("upkeep"), tempfile::tempdir().unwrap());
    let program = binary("portmaster-interceptor");
    let printed = host.sh(&format!(
        "setpriv --bounding-set -all --inh-caps -all {} --root {} --print-rules",
        program.display(),
        folder.path().display()
    ));
    let (v4, v6) = printed.split_at(printed.find("# IPv6").unwrap());
    for (program, text) in PROGRAMS.into_iter().zip([v4, v6]) {
        let file = folder.path().join(program);
        std::fs::write(&file, text).unwrap();
        host.sh(&format!("{program}-nft-restore --noflush <{}", file.display()));
    }
    assert_eq!(verify(&host, &config(BackendChoice::Nft)), []);
}

#[test]
fn the_program_removes_the_rules_and_can_be_told_twice() {
    let (host, folder) = (Namespace::new("upkeep"), tempfile::tempdir().unwrap());
    let program = binary("portmaster-interceptor");
    for backend in BACKENDS {
        apply(&host, &config(backend), MarkScheme::default());
        for _ in 0..2 {
            host.sh(&format!(
                "{} --root {} --cleanup",
                program.display(),
                folder.path().display()
            ));
            assert_eq!(saved(&host, backend), "");
        }
    }
}

#[test]
fn two_capabilities_are_enough_to_remove_the_rules() {
    let (host, folder) = (Namespace::new("upkeep"), tempfile::tempdir().unwrap());
    let root = folder.path().display();
    // nobody reads the folder that we build in
    let program = folder.path().join("interceptor");
    std::fs::copy(binary("portmaster-interceptor"), &program).unwrap();
    host.sh(&format!(
        "mkdir -p {root}/run/portmaster; chown -R 65534:65534 {root}; chmod 755 {root}"
    ));
    for (backend, capabilities) in BACKENDS.into_iter().zip(["+net_admin", "+net_admin,+net_raw"]) {
        apply(&host, &config(backend), MarkScheme::default());
        host.sh(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps {capabilities} --ambient-caps {capabilities} \
             {} --root {root} --cleanup",
            program.display()
        ));
        assert_eq!(saved(&host, backend), "");
    }
}

#[test]
fn rules_that_iptables_cannot_read_are_told_of_and_do_not_keep_ours_from_being_removed() {
    let host = Namespace::new("upkeep");
    apply(&host, &config(BackendChoice::Nft), MarkScheme::default());
    host.sh("nft add rule ip filter OUTPUT ct state vmap '{ established : accept }'");
    let error = inside(&host, || async {
        let firewall = Firewall::new(&config(BackendChoice::Nft), MarkScheme::default())
            .await
            .unwrap();
        firewall.apply().await.unwrap_err().to_string()
    });
    assert!(error.contains("nft table ip filter"), "{error}");
    assert_eq!(
        host.sh("nft list table ip filter 2>/dev/null")
            .matches("jump C17")
            .count(),
        2
    );
    clean(&host);
    assert!(!host.sh("nft list table ip filter 2>/dev/null").contains("C17"));
    assert_eq!(saved(&host, BackendChoice::Nft), "");
}

/// Watches until dropped.
struct Watch {
    shutdown: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Watch {
    fn start(namespace: &Namespace, config: &Config) -> Self {
        let (shutdown, reports) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let (token, told, config) = (shutdown.clone(), Arc::clone(&reports), config.clone());
        let namespace_file = std::fs::File::open(namespace.path()).unwrap();
        let thread = thread::spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace_file), Some(kind))
                .unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let firewall = Firewall::new(&config, MarkScheme::default()).await.unwrap();
                firewall.apply().await.unwrap();
                firewall
                    .watch(token, |report| told.lock().unwrap().push(report))
                    .await;
            });
        });
        Self {
            shutdown,
            thread: Some(thread),
            reports,
        }
    }

    /// The first report that is as wanted.
    fn expect(&self, what: &str, wanted: impl Fn(&Report) -> bool) {
        eventually(what, || {
            self.reports.lock().unwrap().iter().any(&wanted).then_some(())
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn as_it_should_be(namespace: &Namespace, config: &Config) {
    eventually("the rules are as they should be", || {
        verify(namespace, config).is_empty().then_some(())
    });
}

#[test]
fn what_others_flush_or_put_before_the_rules_is_repaired_and_told() {
    for backend in BACKENDS {
        let host = Namespace::new("upkeep");
        let config = config(backend);
        let watch = Watch::start(&host, &config);
        as_it_should_be(&host, &config);
        for (family, program) in Family::ALL.into_iter().zip(PROGRAMS) {
            let program = format!("{program}-{}", suffix(backend));
            for change in [
                "-t mangle -F OUTPUT",
                "-t mangle -I OUTPUT -j ACCEPT",
                "-F C17",
                "-t nat -F OUTPUT",
                "-t mangle -F POSTROUTING",
            ] {
                watch.reports.lock().unwrap().clear();
                host.sh(&format!("{program} {change}"));
                watch.expect(change, |report| {
                    matches!(report, Report::Repaired { family: told, .. } | Report::Conflict { family: told, .. } if *told == family)
                });
                as_it_should_be(&host, &config);
            }
        }
    }
}

#[test]
fn all_rules_come_back_after_the_whole_firewall_was_flushed() {
    let host = Namespace::new("upkeep");
    let config = config(BackendChoice::Nft);
    let _watch = Watch::start(&host, &config);
    as_it_should_be(&host, &config);
    host.sh("nft flush ruleset");
    as_it_should_be(&host, &config);
    assert!(saved(&host, BackendChoice::Nft).contains("-j C171"));
}

#[test]
fn somebody_who_keeps_undoing_the_rules_is_told_of_and_does_not_win() {
    for backend in BACKENDS {
        let host = Namespace::new("upkeep");
        let config = config(backend);
        let watch = Watch::start(&host, &config);
        as_it_should_be(&host, &config);
        let undo = format!(
            "iptables-{} -w -t mangle -D OUTPUT -j C170 2>/dev/null || true",
            suffix(backend)
        );
        eventually("the conflict is told", || {
            host.sh(&undo);
            let reports = watch.reports.lock().unwrap();
            reports
                .iter()
                .any(|report| matches!(report, Report::Conflict { .. }))
                .then_some(())
        });
        as_it_should_be(&host, &config);
        watch.expect("the conflict ends", |report| {
            matches!(report, Report::Settled { .. })
        });
    }
}

#[test]
fn the_running_service_repairs_its_rules_and_says_so() {
    let world = World::builder("repair")
        .without(Service::Policy)
        .without(Service::Resolver)
        .start();
    world
        .host
        .sh("iptables-nft -t mangle -F INPUT; ip6tables-nft -F C17");
    as_it_should_be(&world.host, &config(BackendChoice::Nft));
    eventually("both repairs are logged", || {
        let log = world.service(Service::Interceptor).output();
        let told = ["mangle INPUT lacks \\\"-j C171\\\"", "filter C17 is empty"];
        told.iter().all(|text| log.contains(text)).then_some(())
    });
}
