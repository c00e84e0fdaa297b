//! From `nft --json list ruleset` to rules that matter. Pure and total: what is not understood is passed over.
//!
//! Source: `libnftables-json(5)`. Rules that `iptables-nft` made are seen here without their meaning (`xt`); they are read by its
//! own program.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    owner::Owner,
    rules::{Effect, Rule, When},
};

/// `mangle` and `filter`, as netfilter numbers them: our two places.
const MANGLE: i64 = -150;
const FILTER: i64 = 0;

/// Tables that iptables-nft makes.
const IPTABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// Family, table, chain.
type Place<'a> = (&'a str, &'a str, &'a str);

/// Rules of others. `read`: families (`ip`, `ip6`) whose tables of iptables were read by its own program.
///
/// # Errors
/// Where it is no such text.
pub(super) fn rules(text: &str, read: &[&str]) -> Result<Vec<Rule>, serde_json::Error> {
    let whole: Value = serde_json::from_str(text)?;
    let objects = whole.get("nftables").and_then(Value::as_array);
    let objects: Vec<&Value> = objects.into_iter().flatten().collect();
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let lines: Vec<_> = objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter_map(|rule| Some((place(rule, "chain")?, rule.get("expr")?)))
        .filter(|((family, table, _), _)| !(read.contains(family) && IPTABLES.contains(table)))
        .collect();
    let bases = chains.filter_map(|chain| Some((place(chain, "name")?, hook(chain)?)));
    let when = meetings(bases.collect(), &lines);
    let mut rules = Vec::new();
    for (at @ (family, table, chain), expressions) in &lines {
        let Some(when) = when.get(at) else { continue };
        let place = format!("nft, table {family} {table}, chain {chain}");
        for effect in effects(expressions) {
            rules.push(Rule {
                owner: Owner::of([*table, *chain], &format!("nft, table {family} {table}")),
                place: place.clone(),
                text: brief(expressions),
                when: when.iter().copied().collect(),
                effect,
            });
        }
    }
    Ok(rules)
}

fn place<'a>(object: &'a Value, chain: &str) -> Option<Place<'a>> {
    let text = |key: &str| object.get(key)?.as_str();
    Some((text("family")?, text("table")?, text(chain)?))
}

/// When packets of this host get to a base chain.
fn hook(chain: &Value) -> Option<When> {
    let priority = chain.get("prio")?.as_i64()?;
    Some(match chain.get("hook")?.as_str()? {
        "prerouting" | "ingress" => When::Before,
        "output" | "input" if priority < MANGLE => When::Before,
        "output" | "input" if priority <= FILTER => When::Between,
        "output" | "input" | "postrouting" | "egress" => When::After,
        _ => return None,
    })
}

fn meetings<'a>(
    mut todo: Vec<(Place<'a>, When)>,
    lines: &[(Place<'a>, &'a Value)],
) -> BTreeMap<Place<'a>, BTreeSet<When>> {
    let mut met: BTreeMap<Place<'a>, BTreeSet<When>> = BTreeMap::new();
    while let Some((at, when)) = todo.pop() {
        if !met.entry(at).or_default().insert(when) {
            continue;
        }
        let (family, table, _) = at;
        for (_, expressions) in lines.iter().filter(|(place, _)| *place == at) {
            let mut targets = Vec::new();
            jumps(expressions, &mut targets);
            todo.extend(targets.into_iter().map(|target| ((family, table, target), when)));
        }
    }
    met
}

/// Also those in verdict maps.
fn jumps<'a>(value: &'a Value, targets: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| jumps(value, targets)),
        Value::Object(object) => {
            for (key, value) in object {
                let target = value.get("target").and_then(Value::as_str);
                targets.extend(target.filter(|_| key == "jump" || key == "goto"));
                jumps(value, targets);
            }
        }
        _ => {}
    }
}

fn effects(expressions: &Value) -> Vec<Effect> {
    let expressions = expressions.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut effects: Vec<_> = expressions.iter().filter_map(effect).collect();
    let filters = |value: &Value| {
        let verdicts = ["accept", "drop", "reject", "dnat", "redirect"];
        value
            .as_object()
            .is_some_and(|object| object.keys().any(|key| verdicts.contains(&key.as_str())))
    };
    if expressions.iter().any(filters) {
        effects.push(Effect::Filter);
    }
    effects
}

fn effect(expression: &Value) -> Option<Effect> {
    if let Some(queue) = expression.get("queue") {
        return Some(Effect::Queue(queue_range(queue)?));
    }
    let mangle = expression.get("mangle")?;
    let (key, value) = (mangle.get("key")?, mangle.get("value")?);
    let is_mark = |kind: &str| key.get(kind).and_then(|key| key.get("key")?.as_str()) == Some("mark");
    if is_mark("meta") {
        Some(Effect::Mark(changed(value, key)))
    } else if is_mark("ct") {
        Some(Effect::ConnectionMark(changed(value, key)))
    } else {
        None
    }
}

fn queue_range(queue: &Value) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let Some(numbers) = queue.get("num") else {
        return Some(0..=0);
    };
    match numbers.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([first, last]) => Some(number(first)?..=number(last)?),
        _ => number(numbers).map(|number| number..=number),
    }
}

/// The bits that are not as they were, once `key` is set to `value`.
fn changed(value: &Value, key: &Value) -> u32 {
    if value == key {
        return 0;
    }
    let part = |operator: &str| {
        let [inner, bits] = value.get(operator)?.as_array()?.as_slice() else {
            return None;
        };
        Some((changed(inner, key), u32::try_from(bits.as_u64()?).ok()?))
    };
    if let Some((inner, kept)) = part("&") {
        return inner | !kept;
    }
    match part("|").or_else(|| part("^")) {
        Some((inner, bits)) => inner | bits,
        None => u32::MAX,
    }
}

/// For people: the expressions that do something, as they stand.
fn brief(expressions: &Value) -> String {
    let expressions = expressions.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = expressions.iter().filter(|value| value.get("counter").is_none());
    let words: Vec<_> = shown.map(Value::to_string).collect();
    let mut text = words.join(" ");
    if let Some((cut, _)) = text.char_indices().nth(200) {
        text.truncate(cut);
        text.push('…');
    }
    text
}
