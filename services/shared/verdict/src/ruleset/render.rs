//! Text for `iptables-restore --noflush`, spelled as `iptables-save` spells it (but for marks: decimal, as listed).

use std::fmt::{self, Write};

use super::{
    Chain, ChainName, Family, MarkTest, Match, RejectWith, Rule, RuleSet, Saved, SavedTable, Table,
    TableName, Target, Transport,
};

/// The rules for a firewall that holds nothing of ours, each addition with its reason as a comment.
pub fn render(rules: &RuleSet, family: Family) -> String {
    let empty = SavedTable::default();
    let tables = rules.tables(family).iter();
    let mut text = format!("# {family}\n");
    tables.for_each(|table| install(table, &empty, true, &mut text));
    text
}

/// What brings a firewall that holds `saved` to hold the rules: own chains are filled anew, our rules in the kernel's
/// chains are taken out wherever they are and put at the head. Each table is one transaction. Only the named tables.
pub fn render_install(rules: &RuleSet, family: Family, saved: &Saved, only: &[TableName]) -> String {
    let empty = SavedTable::default();
    let mut text = String::new();
    for table in rules
        .tables(family)
        .iter()
        .filter(|table| only.contains(&table.name))
    {
        install(table, saved.table(table.name).unwrap_or(&empty), false, &mut text);
    }
    text
}

/// What takes everything of ours out of a firewall that holds `saved`, of this configuration or an earlier one; `None`
/// where there is nothing. The reverse of loading: the tables that ask go first, then those that enforce.
pub fn render_removal(saved: &Saved) -> Option<String> {
    let mut text = String::new();
    for name in TableName::ALL.into_iter().rev() {
        if let Some(table) = saved.table(name) {
            remove(name, table, &mut text);
        }
    }
    (!text.is_empty()).then_some(text)
}

fn install(table: &Table, saved: &SavedTable, comments: bool, text: &mut String) {
    line(text, format_args!("*{}", table.name));
    for chain in table.chains.iter().filter(|chain| chain.name.is_own()) {
        line(text, format_args!(":{} - [0:0]", chain.name)); // made if absent, emptied if not
    }
    for (chain, rule) in saved.ours(table.name) {
        if !is_own(chain) {
            line(text, format_args!("-D {chain} {}", rule.text));
        }
    }
    for chain in &table.chains {
        fill(chain, comments, text);
    }
    line(text, format_args!("COMMIT"));
}

fn fill(chain: &Chain, comments: bool, text: &mut String) {
    let mut said = "";
    for (place, rule) in (1..).zip(&chain.rules) {
        if comments && !rule.why.is_empty() && rule.why != said {
            line(text, format_args!("# {}", rule.why));
        }
        said = rule.why;
        if chain.name.is_own() {
            line(text, format_args!("-A {} {rule}", chain.name));
        } else {
            line(text, format_args!("-I {} {place} {rule}", chain.name));
        }
    }
}

fn remove(name: TableName, table: &SavedTable, text: &mut String) {
    let own: Vec<_> = table.chains.iter().filter(|chain| is_own(&chain.name)).collect();
    let rules: Vec<_> = table.ours(name).filter(|(chain, _)| !is_own(chain)).collect();
    if own.is_empty() && rules.is_empty() {
        return;
    }
    line(text, format_args!("*{name}"));
    for (chain, rule) in rules {
        line(text, format_args!("-D {chain} {}", rule.text));
    }
    for chain in &own {
        line(text, format_args!("-F {}", chain.name));
    }
    for chain in &own {
        line(text, format_args!("-X {}", chain.name));
    }
    line(text, format_args!("COMMIT"));
}

pub(super) fn is_own(chain: &str) -> bool {
    ChainName::OWN.iter().any(|own| own.text() == chain)
}

fn line(text: &mut String, arguments: fmt::Arguments<'_>) {
    let _ = writeln!(text, "{arguments}"); // a String takes everything
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.matches {
            write!(f, "{test} ")?;
        }
        write!(f, "{}", self.target)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(transport) => write!(f, "-p {transport}"),
            Self::DestinationPort(transport, port) => write!(f, "-m {transport} --dport {port}"),
            Self::TcpReset => f.write_str("-m tcp --tcp-flags RST RST"),
            Self::Icmp6Type(kind) => write!(f, "-m icmp6 --icmpv6-type {kind}"),
            Self::HopLimit(limit) => write!(f, "-m hl --hl-eq {limit}"),
            Self::Related => f.write_str("-m conntrack --ctstate RELATED"),
            Self::PacketMark(test) => write!(f, "-m mark {test}"),
            Self::ConnectionMark(test) => write!(f, "-m connmark {test}"),
            Self::NotOutLoopback => f.write_str("! -o lo"),
            Self::OutLoopback => f.write_str("-o lo"),
            Self::NotLocal => f.write_str("-m addrtype ! --dst-type LOCAL"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmp6 => "ipv6-icmp",
        })
    }
}

impl fmt::Display for MarkTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.equal { "" } else { "! " };
        match self.mask {
            u32::MAX => write!(f, "{not}--mark {}", self.value),
            mask => write!(f, "{not}--mark {:#x}/{mask:#x}", self.value),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("-j ACCEPT"),
            Self::Drop => f.write_str("-j DROP"),
            Self::Return => f.write_str("-j RETURN"),
            Self::Jump(chain) => write!(f, "-j {chain}"),
            Self::Reject(with) => write!(f, "-j REJECT --reject-with {with}"),
            Self::Queue(number) => write!(f, "-j NFQUEUE --queue-num {number} --queue-bypass"),
            Self::RestoreMark(mask) => write!(f, "-j CONNMARK --restore-mark{}", Masks(*mask)),
            Self::SaveMark(mask) => write!(f, "-j CONNMARK --save-mark{}", Masks(*mask)),
            Self::Redirect(to) => write!(f, "-j DNAT --to-destination {to}"),
        }
    }
}

struct Masks(u32);

impl fmt::Display for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u32::MAX => Ok(()),
            mask => write!(f, " --nfmask {mask:#x} --ctmask {mask:#x}"),
        }
    }
}

impl fmt::Display for RejectWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostProhibited => "icmp-host-prohibited",
            Self::AdminProhibited => "icmp6-adm-prohibited",
            Self::TcpReset => "tcp-reset",
        })
    }
}
