//! What rules of others do to ours. Pure.
//!
//! Our rules decide twice: `mangle` (C170, C171) takes the connection's mark or asks for one, `filter` (C17) turns the mark into
//! a fate and keeps it on the connection. So whoever changes the bits of ours between the two, or on the connection at any
//! time, undoes decisions. Whoever merely accepts or drops does not: a packet has to pass them and us.

use std::{collections::BTreeMap, ops::RangeInclusive};

use verdict::{
    packet::Hook,
    ruleset::{Family, Options, queue_number},
};

use super::{
    facts::Reader,
    finding::{Finding, Level},
    owner::Owner,
};

/// A rule of somebody else, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) owner: Owner,
    /// Back end, family, table and chain, for people.
    pub(super) place: String,
    /// The rule itself, for people.
    pub(super) text: String,
    /// When packets of this host may meet it.
    pub(super) when: Vec<When>,
    pub(super) effect: Effect,
}

/// When a packet meets a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    /// Before it is asked about.
    Before,
    /// After it was asked about, in the very table where that is done: first packets never get there, since a verdict
    /// ends the table.
    Skipped,
    /// Between that and its fate.
    Between,
    /// After its fate was decided.
    After,
}

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Another program decides.
    Queue(RangeInclusive<u16>),
    /// These bits of the packet's mark change.
    Mark(u32),
    /// These bits of the connection's mark change.
    ConnectionMark(u32),
    /// It accepts, drops, rejects, redirects.
    Filter,
}

/// Judges them all; one finding for each kind of trouble and each owner.
pub(super) fn judge(rules: &[Rule], ours: &Options, readers: &[Reader]) -> Vec<Finding> {
    let mut groups: BTreeMap<_, Vec<(&Rule, String)>> = BTreeMap::new();
    for rule in rules {
        if let Some((level, code, remedy)) = trouble(rule, ours, readers) {
            let group = groups.entry((level, code, &rule.owner)).or_default();
            group.push((rule, remedy));
        }
    }
    let troubles = groups.into_iter().filter_map(|((level, code, owner), rules)| {
        let (first, remedy) = rules.first()?;
        let more = match rules.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more like it"),
        };
        let what = format!("{owner}: {} says \"{}\"{more}", first.place, first.text);
        Some(Finding::new(level, code, what, remedy))
    });
    let mut findings: Vec<_> = troubles.collect();
    let filter = rules.iter().filter(|rule| rule.effect == Effect::Filter);
    let mut owners: Vec<_> = filter.map(|rule| &rule.owner).collect();
    owners.sort();
    owners.dedup();
    findings.extend(owners.into_iter().map(|owner| {
        let what = format!("{owner}: its rules filter as well");
        Finding::new(Level::Beside, "other-rules", what, owner.beside())
    }));
    findings
}

const QUEUE_RULE: &str = "queue-rule";
const QUEUE_SKIPPED: &str = "queue-skipped";
const QUEUE_BESIDE: &str = "queue-beside";
const MARK: &str = "mark-overwritten";
const MARK_WIPED: &str = "mark-wiped";
const MARK_KEPT: &str = "mark-kept";
const CONNECTION_MARK: &str = "connection-mark";

/// Level, code, remedy; `None` for what only filters, or leaves our bits alone.
fn trouble(rule: &Rule, ours: &Options, readers: &[Reader]) -> Option<(Level, &'static str, String)> {
    let overlap = |bits: u32| bits & ours.scheme.mask() != 0;
    let meets = |when: &[When]| rule.when.iter().any(|met| when.contains(met));
    match &rule.effect {
        Effect::Filter => None,
        Effect::Queue(range) => Some(queue(rule, range, readers)),
        Effect::ConnectionMark(bits) => overlap(*bits).then(|| {
            let remedy = format!(
                "decisions are kept in the connection's mark, this writes {} of it, and what has no mark of ours is dropped: {}",
                bits_text(*bits),
                apart(*bits)
            );
            (Level::Clash, CONNECTION_MARK, remedy)
        }),
        Effect::Mark(bits) if overlap(*bits) && meets(&[When::Between, When::Skipped]) => {
            let remedy = format!(
                "the mark that carries a decision is overwritten ({}) before it is carried out, and what has no mark of ours is dropped: {}",
                bits_text(*bits),
                apart(*bits)
            );
            Some((Level::Clash, MARK, remedy))
        }
        Effect::Mark(bits) if overlap(*bits) && meets(&[When::Before]) => Some(if ours.keep_foreign_marks {
            let remedy = "packets of allowed connections keep this mark (keep_foreign_marks); the first packet of each is routed \
                without it";
            (Level::Beside, MARK_KEPT, remedy.to_owned())
        } else {
            let remedy = "firewall.keep_foreign_marks is off in interceptor.toml, so that this mark is wiped: switch it on, or give \
                the two different bits (marks.mask, marks.shift)";
            (Level::Clash, MARK_WIPED, remedy.to_owned())
        }),
        Effect::Mark(_) => None,
    }
}

fn queue(rule: &Rule, range: &RangeInclusive<u16>, readers: &[Reader]) -> (Level, &'static str, String) {
    let reader = readers
        .iter()
        .find(|reader| range.contains(&reader.line.queue))
        .map(|reader| match &reader.process {
            Some(process) => process.to_string(),
            None => reader.line.holder(),
        });
    let reader = reader.map_or("which nobody reads now".to_owned(), |who| {
        format!("read by {who}")
    });
    let numbers = if range.start() == range.end() {
        format!("queue {}", range.start())
    } else {
        format!("queues {} to {}", range.start(), range.end())
    };
    if our_queues().iter().any(|number| range.contains(number)) {
        let remedy = format!(
            "{numbers} is ours, {reader}: stop the program whose rule this is, and remove the rule; two programs cannot decide the same packets"
        );
        (Level::Clash, QUEUE_RULE, remedy)
    } else if rule.when.contains(&When::Skipped) {
        let remedy = format!(
            "{numbers}, {reader}, never gets the first packet of a connection, since a verdict of ours ends this table: stop one of the two firewalls, or move this rule to the filter table"
        );
        (Level::Clash, QUEUE_SKIPPED, remedy)
    } else {
        let remedy = format!(
            "{numbers}, {reader}, decides the same packets: what either drops is dropped. It must leave the packet's mark as it is"
        );
        (Level::Beside, QUEUE_BESIDE, remedy)
    }
}

/// Ours, of both ways and families.
pub(super) fn our_queues() -> [u16; 4] {
    let of = |hook, family| queue_number(hook, family);
    [
        of(Hook::Output, Family::V4),
        of(Hook::Output, Family::V6),
        of(Hook::Input, Family::V4),
        of(Hook::Input, Family::V6),
    ]
}

fn bits_text(bits: u32) -> String {
    if bits == u32::MAX {
        "all".to_owned()
    } else {
        format!("bits {bits:#x}")
    }
}

/// Eleven bits in a row that are free, if there are any.
fn apart(bits: u32) -> String {
    let free = (0..=21_u32).find(|shift| bits & (0x7ff << shift) == 0);
    match free {
        Some(shift) => format!(
            "give Portmaster bits of its own in interceptor.toml: [marks] mask = {:#x}, shift = {shift}",
            0x7ff_u32 << shift
        ),
        None => "have it write under a mask (as in 0x1/0xff), and give Portmaster other bits ([marks] mask and shift in \
            interceptor.toml); where it cannot, one of the two has to go"
            .to_owned(),
    }
}
