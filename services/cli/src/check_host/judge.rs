//! From facts to findings. Pure.

use verdict::ruleset::{Family, Options};

use super::{
    facts::{Backend, Facts, Process, Reader, Saved, Settings, Trial},
    finding::{Finding, Level},
    iptables, nft, ports,
    rules::{self, our_queues},
};

/// Everything that is to be said, the worst first.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = facts.ours.clone().unwrap_or_default();
    if let Err(error) = &facts.ours {
        findings.push(Finding::new(
            Level::Clash,
            "configuration",
            error,
            "put the file right: what is said of marks and addresses here goes by the defaults",
        ));
    }
    findings.extend(programs(facts));
    findings.extend(kernel(facts));
    findings.extend(readers(facts));
    findings.extend(facts.processes.iter().filter_map(firewall));
    findings.extend(all_rules(facts, &ours));
    findings.extend(backends(facts));
    findings.extend(settings(&facts.settings));
    findings.extend(
        facts
            .sockets
            .iter()
            .filter_map(|socket| ports::judge(socket, &ours)),
    );
    findings.sort_by_key(|finding| finding.level);
    findings.dedup();
    findings
}

fn programs(facts: &Facts) -> Option<Finding> {
    (!facts.missing.is_empty()).then(|| {
        let what = format!("not installed: {}", facts.missing.join(", "));
        let remedy = "install the package iptables: Portmaster loads its rules by these programs";
        Finding::new(Level::Clash, "no-program", what, remedy)
    })
}

fn kernel(facts: &Facts) -> Vec<Finding> {
    const NEEDED: &str = "NETFILTER_XT_TARGET_NFQUEUE, NETFILTER_NETLINK_QUEUE, NETFILTER_XT_CONNMARK, NETFILTER_XT_MARK, NF_CONNTRACK_MARK, \
        NF_CT_NETLINK, IP_NF_TARGET_REJECT, IP6_NF_TARGET_REJECT, NF_NAT (and NFT_COMPAT for iptables-nft)";
    let trial = |(family, trial): &(Family, Trial)| match trial {
        Trial::Taken => None,
        Trial::Refused(said) => Some(Finding::new(
            Level::Clash,
            "kernel",
            format!("the kernel does not take the {family} rules: {said}"),
            format!(
                "it needs {NEEDED}: install the modules of the running kernel (a restart, where it was just upgraded), or one that has them"
            ),
        )),
        Trial::Untried(why) => Some(Finding::new(
            Level::Unknown,
            "kernel",
            format!("whether the kernel takes the {family} rules could not be tried: {why}"),
            "run this as root, on the host itself",
        )),
    };
    let mut findings: Vec<_> = facts.trial.iter().filter_map(trial).collect();
    if facts.queues == Some(false) {
        findings.push(Finding::new(
            Level::Clash,
            "no-queues",
            "the kernel has no packet queues (nfnetlink_queue)",
            format!("it needs {NEEDED}"),
        ));
    }
    findings
}

fn readers(facts: &Facts) -> Vec<Finding> {
    let all = match &facts.readers {
        Ok(all) => all,
        Err(why) => {
            let what = format!("who reads the packet queues could not be seen: {why}");
            return vec![Finding::new(
                Level::Unknown,
                "queue-held",
                what,
                "run this as root",
            )];
        }
    };
    let is_strange = |reader: &&Reader| {
        our_queues().contains(&reader.line.queue) && !reader.process.as_ref().is_some_and(Process::is_ours)
    };
    let held = |reader: &Reader| {
        let holder = reader
            .process
            .as_ref()
            .map_or_else(|| reader.line.holder(), Process::to_string);
        Finding::new(
            Level::Clash,
            "queue-held",
            format!("queue {} is held by {holder}", reader.line.queue),
            "stop it: two programs cannot decide the same packets",
        )
    };
    all.iter().filter(is_strange).map(held).collect()
}

/// Programs that decide for applications, as we do.
fn firewall(process: &Process) -> Option<Finding> {
    let (name, remedy) = match process.name.as_str() {
        "opensnitchd" => ("OpenSnitch", "systemctl disable --now opensnitch"),
        "portmaster-core" | "portmaster-start" => {
            ("Safing's Portmaster", "systemctl disable --now portmaster")
        }
        "douaned" => ("Douane", "systemctl disable --now douane"),
        _ => return None,
    };
    Some(Finding::new(
        Level::Clash,
        "other-firewall",
        format!("{name} runs as well: {process}"),
        format!("keep one application firewall: {remedy}"),
    ))
}

fn all_rules(facts: &Facts, ours: &Options) -> Vec<Finding> {
    let (mut findings, mut met) = (Vec::new(), Vec::new());
    let unread = |what: String, why: &str| {
        Finding::new(
            Level::Unknown,
            "rules",
            format!("{what} could not be read: {why}"),
            "run this as root",
        )
    };
    for saved in &facts.saved {
        match &saved.text {
            Err(why) => findings.push(unread(
                format!("{} rules of iptables-{}", saved.family, saved.backend),
                why,
            )),
            Ok(_) => {
                met.extend(iptables::rules(saved, facts.backend));
                findings.extend(iptables::unreadable(saved).into_iter().map(|table| {
                    Finding::new(
                        Level::Clash,
                        "table-unreadable",
                        format!("{} table {table} holds rules that iptables cannot read, made by nft", saved.family),
                        "move them to a table of another name (`nft add table inet mine`): Portmaster does not start where it cannot read what is there",
                    )
                }));
            }
        }
    }
    match &facts.nft {
        None => {}
        Some(Err(why)) => findings.push(unread("rules of nft".to_owned(), why)),
        Some(Ok(text)) => match nft::rules(text, &read_by_iptables(facts)) {
            Ok(rules) => met.extend(rules),
            Err(error) => findings.push(unread("rules of nft".to_owned(), &error.to_string())),
        },
    }
    let readers = facts.readers.as_deref().unwrap_or_default();
    findings.extend(rules::judge(&met, ours, readers));
    findings
}

/// Families of nft whose tables of iptables its own program has read.
fn read_by_iptables(facts: &Facts) -> Vec<&'static str> {
    let read = facts
        .saved
        .iter()
        .filter(|saved| saved.backend == Backend::Nft && saved.text.is_ok());
    read.map(|saved| match saved.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    })
    .collect()
}

/// Rules of others in both.
fn backends(facts: &Facts) -> Option<Finding> {
    let has = |backend: Backend| {
        let of = facts
            .saved
            .iter()
            .filter(|saved: &&Saved| saved.backend == backend);
        of.flat_map(|saved| iptables::rules(saved, facts.backend)).count() > 0
    };
    (has(Backend::Nft) && has(Backend::Legacy)).then(|| {
        Finding::new(
            Level::Beside,
            "two-back-ends",
            "there are rules in iptables-legacy as well as in iptables-nft: a packet passes both, and the programs of one do not show the other's",
            "works beside; move one to the other where you can: `iptables-legacy-save | iptables-nft-restore`, then flush iptables-legacy",
        )
    })
}

/// Programs that take away all rules there are, now and then.
fn settings(settings: &Settings) -> Vec<Finding> {
    let says = |text: &Option<String>, line: &dyn Fn(&str) -> bool| {
        let text = text.as_deref().unwrap_or_default();
        text.lines().map(str::trim).any(line)
    };
    let spaced = |line: &str, wanted: &str| line.split_whitespace().eq(wanted.split(' '));
    let repaired = "they are put back within a second, and packets pass undecided meanwhile";
    let flushes = |what: &str, remedy: &str| {
        Finding::new(
            Level::Beside,
            "flushes-rules",
            format!("{what} takes away all rules of the host, ours as well; {repaired}"),
            remedy,
        )
    };
    let mut findings = Vec::new();
    if says(&settings.nftables, &|line| {
        spaced(line.trim_end_matches(';'), "flush ruleset")
    }) {
        findings.push(flushes(
            "each start, reload and stop of nftables.service (\"flush ruleset\" in /etc/nftables.conf)",
            "works beside; to lose nothing, flush only what is yours: `table inet filter` and `flush table inet filter` instead",
        ));
    }
    if says(&settings.firewalld, &|line| {
        line.split_once('=')
            .is_some_and(|(key, value)| key.trim() == "FirewallBackend" && value.trim() == "iptables")
    }) {
        findings.push(flushes(
            "each start, reload and stop of firewalld (FirewallBackend=iptables in /etc/firewalld/firewalld.conf)",
            "works beside; to lose nothing, set FirewallBackend=nftables",
        ));
    }
    if says(&settings.ufw, &|line| line == "MANAGE_BUILTINS=yes") {
        findings.push(flushes(
            "each start and stop of ufw (MANAGE_BUILTINS=yes in /etc/default/ufw)",
            "works beside; to lose nothing, set MANAGE_BUILTINS=no",
        ));
    }
    findings
}
