//! From the text of `iptables-save` to rules that matter. Pure and total: a line that is not understood is passed over.

use std::collections::{BTreeMap, BTreeSet};

use verdict::ruleset::{ChainName, Saved as Ours, TableName};

use super::{
    facts::{Backend, Saved},
    owner::Owner,
    rules::{Effect, Rule, When},
};

/// Tables that the program cannot read, since `nft` made rules there.
pub(super) fn unreadable(saved: &Saved) -> Vec<TableName> {
    let text = saved.text.as_deref().unwrap_or_default();
    Ours::parse(text).unreadable().to_vec()
}

/// Rules of others. `ours`: the back end that ours are in.
pub(super) fn rules(saved: &Saved, ours: Option<Backend>) -> Vec<Rule> {
    let text = saved.text.as_deref().unwrap_or_default();
    let known = Ours::parse(text);
    let lines: Vec<_> = lines(text).collect();
    let when = meetings(&lines, ours.is_none_or(|ours| ours == saved.backend));
    let mut rules = Vec::new();
    for line in &lines {
        let Some(when) = when
            .get(&(line.table, line.chain))
            .filter(|when| !when.is_empty())
        else {
            continue;
        };
        let place = format!(
            "iptables-{}, {}, {} {}",
            saved.backend, saved.family, line.table, line.chain
        );
        if is_ours(&known, line) {
            continue;
        }
        rules.extend(effect(line).map(|effect| Rule {
            owner: Owner::of([line.chain, line.target().unwrap_or_default()], &place),
            text: line.text.to_owned(),
            when: when.iter().copied().collect(),
            effect,
            place,
        }));
    }
    rules
}

/// `-A CHAIN TEXT` in a table.
struct Line<'a> {
    table: &'a str,
    chain: &'a str,
    text: &'a str,
}

impl<'a> Line<'a> {
    /// What follows an option.
    fn value(&self, option: &str) -> Option<&'a str> {
        let mut words = self.text.split_whitespace();
        words.find(|word| *word == option)?;
        words.next()
    }

    fn target(&self) -> Option<&'a str> {
        self.value("-j").or_else(|| self.value("-g"))
    }
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut table = "";
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        // with counters: [12:345] -A …
        let line = match line.strip_prefix('[') {
            Some(counted) => counted.split_once(']')?.1.trim_start(),
            None => line,
        };
        let rest = line.strip_prefix("-A ")?.trim_start();
        let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Line { table, chain, text })
    })
}

fn is_ours(known: &Ours, line: &Line<'_>) -> bool {
    if ChainName::OWN.iter().any(|own| own.text() == line.chain) {
        return true;
    }
    let table = TableName::ALL
        .into_iter()
        .find(|table| table.text() == line.table);
    table
        .and_then(|name| Some((name, known.table(name)?)))
        .is_some_and(|(name, table)| {
            table
                .ours(name)
                .any(|(chain, rule)| chain == line.chain && rule.text == line.text.trim())
        })
}

/// When packets get to each chain: from the kernel's chains along the jumps.
fn meetings<'a>(lines: &[Line<'a>], same_backend: bool) -> BTreeMap<(&'a str, &'a str), BTreeSet<When>> {
    let mut met: BTreeMap<(&str, &str), BTreeSet<When>> = BTreeMap::new();
    let mut todo: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            Some((
                line.table,
                line.chain,
                builtin(line.table, line.chain, same_backend)?,
            ))
        })
        .collect();
    while let Some((table, chain, when)) = todo.pop() {
        if !met.entry((table, chain)).or_default().insert(when) {
            continue;
        }
        let from_here = lines
            .iter()
            .filter(|line| (line.table, line.chain) == (table, chain));
        todo.extend(from_here.filter_map(|line| Some((table, line.target()?, when))));
    }
    met
}

/// In the other back end, tables of one name stand at the same place, and which comes first is chance.
fn builtin(table: &str, chain: &str, same_backend: bool) -> Option<When> {
    Some(match (table, chain) {
        (_, "PREROUTING") | ("raw", "OUTPUT") => When::Before,
        ("mangle", "OUTPUT" | "INPUT") if same_backend => When::Skipped,
        ("mangle", "OUTPUT" | "INPUT") | ("nat", "OUTPUT") => When::Between,
        ("filter", "OUTPUT" | "INPUT") if !same_backend => When::Between,
        (_, "OUTPUT" | "INPUT" | "POSTROUTING") => When::After,
        // forwarded packets are not decided by us
        _ => return None,
    })
}

fn effect(line: &Line<'_>) -> Option<Effect> {
    let number = |option: &str| line.value(option).and_then(bits);
    let pair = |option: &str| {
        let (value, mask) = line.value(option).map(|value| {
            let (value, mask) = value.split_once('/').unwrap_or((value, "0xffffffff"));
            (bits(value), bits(mask))
        })?;
        Some(value? | mask?)
    };
    let has = |option: &str| line.text.split_whitespace().any(|word| word == option);
    let masks = || {
        let mask = number("--mask");
        let of = |option| number(option).or(mask).unwrap_or(u32::MAX);
        of("--nfmask") | of("--ctmask")
    };
    // old programs have words of their own; what is not understood may change all
    let set = || {
        pair("--set-xmark")
            .or_else(|| pair("--set-mark"))
            .or_else(|| number("--or-mark"))
            .or_else(|| number("--xor-mark"))
            .or_else(|| number("--and-mark").map(|kept| !kept))
            .unwrap_or(u32::MAX)
    };
    Some(match line.target()? {
        "NFQUEUE" => {
            let range = line
                .value("--queue-balance")
                .and_then(|range| range.split_once(':'));
            let (first, last) = match range {
                Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
                None => {
                    let number = line.value("--queue-num").unwrap_or("0").parse().ok()?;
                    (number, number)
                }
            };
            Effect::Queue(first..=last)
        }
        "MARK" => Effect::Mark(set()),
        "TPROXY" => Effect::Mark(pair("--tproxy-mark").unwrap_or(0)),
        "CONNMARK" if has("--restore-mark") => Effect::Mark(masks()),
        "CONNMARK" if has("--save-mark") => Effect::ConnectionMark(masks()),
        "CONNMARK" => Effect::ConnectionMark(set()),
        "ACCEPT" | "DROP" | "REJECT" | "DNAT" | "REDIRECT" => Effect::Filter,
        // a chain of a program that is known
        chain if Owner::is_known(chain) => Effect::Filter,
        _ => return None,
    })
}

fn bits(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
