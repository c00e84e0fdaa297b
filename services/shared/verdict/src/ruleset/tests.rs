use super::*;
use crate::mark::MarkScheme;
use proptest::prelude::*;

const MASK: u32 = 0x07ff_0000;

fn masked() -> Options {
    Options {
        scheme: MarkScheme::new(MASK, 16).unwrap(),
        ..Options::default()
    }
}

fn with_route() -> Options {
    Options {
        ipv6_route: true,
        ..Options::default()
    }
}

fn plain() -> Options {
    Options {
        reject_tcp_with: RejectTcpWith::Icmp,
        keep_foreign_marks: false,
        ..Options::default()
    }
}

/// As `iptables-save` spells it after `render` was loaded: comments gone, hexadecimal, masks written out.
fn as_saved(options: &Options, family: Family) -> String {
    let mut text = String::new();
    for table in RuleSet::new(options).tables(family) {
        text += &format!(
            "*{}\n:INPUT ACCEPT [10:600]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n",
            table.name
        );
        for chain in table.chains.iter().filter(|chain| chain.name.is_own()) {
            text += &format!(":{} - [0:0]\n", chain.name);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                text += &format!("-A {} {}\n", chain.name, respell(&rule.to_string()));
            }
        }
        text += "COMMIT\n# Completed\n";
    }
    text
}

fn respell(rule: &str) -> String {
    let words: Vec<_> = rule.split(' ').collect();
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let mark = index > 0 && words[index - 1] == "--mark";
        match word.parse::<u32>() {
            Ok(number) if mark => text += &format!("{number:#x} "),
            _ => text += &format!("{word} "),
        }
    }
    if rule.ends_with("-mark") {
        text += "--nfmask 0xffffffff --ctmask 0xffffffff";
    }
    text.trim_end().to_owned()
}

#[test]
fn queue_numbers_are_the_specifications() {
    let numbers =
        [Hook::Output, Hook::Input].map(|hook| Family::ALL.map(|family| queue_number(hook, family)));
    assert_eq!(numbers, [[17_040, 17_060], [17_140, 17_160]]);
}

#[test]
fn without_the_additions_the_rules_are_the_listing() {
    let rules = RuleSet::new(&Options::default());
    let listed: Vec<_> = (rules.tables(Family::V4).iter().rev())
        .flat_map(|table| table.chains.iter().map(move |chain| (table.name, chain)))
        .flat_map(|(table, chain)| {
            let rules = chain.rules.iter().filter(|rule| rule.why.is_empty());
            rules.map(move |rule| format!("{table} {} {rule}", chain.name))
        })
        .collect();
    insta::assert_snapshot!(listed.join("\n"));
}

#[test]
fn the_texts_are_as_reviewed() {
    for family in Family::ALL {
        let text = |options| render(&RuleSet::new(&options), family);
        insta::assert_snapshot!(format!("{family}_default"), text(Options::default()));
        insta::assert_snapshot!(format!("{family}_plain"), text(plain()));
        insta::assert_snapshot!(format!("{family}_masked"), text(masked()));
    }
}

#[test]
fn what_was_loaded_verifies_in_every_spelling() {
    for options in [Options::default(), masked(), plain(), with_route()] {
        for family in Family::ALL {
            let rules = RuleSet::new(&options);
            let saved = Saved::parse(&as_saved(&options, family));
            assert_eq!(verify(&rules, family, &saved), []);
            let counted = as_saved(&options, family).replace("-A ", "[3:180] -A ");
            assert_eq!(verify(&rules, family, &Saved::parse(&counted)), []);
        }
    }
    let other = as_saved(&Options::default(), Family::V6)
        .replace("ipv6-icmp", "icmpv6")
        .replace("--icmpv6-type 135", "--icmpv6-type neighbour-solicitation")
        .replace("-j ", "--jump ");
    assert_eq!(
        verify(
            &RuleSet::new(&Options::default()),
            Family::V6,
            &Saved::parse(&other)
        ),
        []
    );
}

#[test]
fn what_has_no_route_but_that_of_the_last_resort_is_refused_before_anything_is_accepted() {
    let with = RuleSet::new(&with_route());
    let without = RuleSet::new(&Options::default());
    assert_eq!(with.tables(Family::V4), without.tables(Family::V4));
    let [text, plain] = [with, without].map(|rules| render(&rules, Family::V6));
    let fates: Vec<_> = text.lines().filter(|line| line.starts_with("-A C17 ")).collect();
    let stray = "-o lo -m addrtype ! --dst-type LOCAL -m mark ! --mark 0 -m mark ! --mark 1702 -m mark ! --mark 1712 -j REJECT";
    assert_eq!(
        fates[..2],
        [
            format!("-A C17 -p tcp {stray} --reject-with tcp-reset"),
            format!("-A C17 {stray} --reject-with icmp6-adm-prohibited"),
        ]
    );
    let rest: Vec<_> = plain.lines().filter(|line| line.starts_with("-A C17 ")).collect();
    assert_eq!(fates[2..], rest);
}

fn deviations(change: impl Fn(String) -> String) -> Vec<String> {
    let saved = Saved::parse(&change(as_saved(&Options::default(), Family::V4)));
    let deviations = verify(&RuleSet::new(&Options::default()), Family::V4, &saved);
    deviations.iter().map(ToString::to_string).collect()
}

#[test]
fn what_others_do_to_the_rules_is_told() {
    let said = |change: fn(String) -> String| deviations(change).join("\n");
    assert_eq!(
        said(|text| text.replace("-A INPUT -j C171\n", "")),
        "mangle INPUT lacks \"-j C171\""
    );
    assert_eq!(
        said(|text| text.replace(
            "-A INPUT -j C171\n",
            "-A INPUT -s 10.0.0.0/8 -j DOCKER\n-A INPUT -j C171\n"
        )),
        "mangle INPUT begins with \"-s 10.0.0.0/8 -j DOCKER\", before ours"
    );
    assert_eq!(
        said(|text| text.replace("-A C17 -m mark --mark 0x0 -j DROP\n", "")),
        "filter C17 lacks \"-m mark --mark 0 -j DROP\""
    );
    assert_eq!(
        said(|text| text.replace("-A C17 -j DROP\n", "-A C17 -m socket -j DROP\n-A C17 -j DROP\n")),
        "filter C17 has \"-m socket -j DROP\", which is not ours"
    );
    assert_eq!(
        said(|text| text.replace("-A INPUT -j C171\n", "-A INPUT -j C171\n-A INPUT -j C171\n")),
        "mangle INPUT has \"-j C171\", which is not ours"
    );
    assert_eq!(
        said(|text| text
            .replace("--mark 0x6a4 -j ACCEPT", "--mark 0x6a6 -j X")
            .replace("--mark 0x6a6 -j DROP", "--mark 0x6a4 -j ACCEPT")
            .replace("--mark 0x6a6 -j X", "--mark 0x6a6 -j DROP")),
        "filter C17 is in another order"
    );
    assert_eq!(
        said(|text| text.replace("--mark 0x6b5 -j ACCEPT", "--mark 0x6b5/0xff -j ACCEPT"))
            .lines()
            .count(),
        2
    );
    assert!(said(|_| String::new()).contains("filter C17 is gone"));
    assert_eq!(deviations(|_| String::new()).len(), 3 + 4 + 4 + 2); // chains, jumps, redirects, guards
}

#[test]
fn a_rule_appended_behind_ours_is_nobodys_business() {
    let change = |text: String| text.replace("-A INPUT -j C171\n", "-A INPUT -j C171\n-A INPUT -j DOCKER\n");
    assert!(deviations(change).is_empty());
}

#[test]
fn loading_again_takes_the_old_rules_out_first() {
    let rules = RuleSet::new(&Options::default());
    let saved = Saved::parse(&as_saved(&masked(), Family::V4)); // an earlier configuration
    let text = render_install(&rules, Family::V4, &saved, &TableName::ALL);
    assert!(text.contains("-D OUTPUT -p udp -m mark --mark 0x7070000/0x7ff0000 -m udp --dport 53 -j DNAT"));
    assert!(text.contains("-D POSTROUTING ! -o lo -m mark --mark 0x6b50000/0x7ff0000 -j DROP\n"));
    assert_eq!(text.matches("-D ").count(), 4 + 4 + 2);
    let only = render_install(&rules, Family::V4, &saved, &[TableName::Filter]);
    assert!(
        only.starts_with("*filter\n:C17 - [0:0]\n-D INPUT -j C17\n")
            || only.starts_with("*filter\n:C17 - [0:0]\n-D OUTPUT -j C17\n")
    );
    assert_eq!(only.matches("COMMIT").count(), 1);
}

#[test]
fn a_table_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let said =
        "# Table `filter' is incompatible, use 'nft' tool.\n*nat\nCOMMIT\n# Table `x' is incompatible\n";
    assert_eq!(Saved::parse(said).unreadable(), [TableName::Filter]);
}

#[test]
fn removal_names_what_is_there_and_nothing_else() {
    let foreign = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m mark --mark 0x1 -j DNAT --to-destination 10.0.0.1\nCOMMIT\n";
    assert_eq!(render_removal(&Saved::parse(foreign)), None);
    assert!(!Saved::parse(foreign).has_ours());
    let saved = Saved::parse(&as_saved(&Options::default(), Family::V4));
    insta::assert_snapshot!(render_removal(&saved).unwrap());
}

/// Runs a removal over what was saved, as `iptables-restore` would.
fn removed(text: &str, removal: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    for line in removal.lines() {
        if let Some(rule) = line.strip_prefix("-D ") {
            let place = lines.iter().position(|other| *other == format!("-A {rule}"));
            lines.remove(place.unwrap());
        } else if let Some(chain) = line.strip_prefix("-F ") {
            lines.retain(|other| !other.starts_with(&format!("-A {chain} ")));
        } else if let Some(chain) = line.strip_prefix("-X ") {
            lines.retain(|other| !other.starts_with(&format!(":{chain} ")));
        }
    }
    lines
}

#[test]
fn after_removal_nothing_of_ours_is_left() {
    for options in [Options::default(), masked(), plain()] {
        let text = as_saved(&options, Family::V6) + "*filter\n-A INPUT -j C17\n-A USERS -g C17\nCOMMIT\n";
        let left = removed(&text, &render_removal(&Saved::parse(&text)).unwrap()).join("\n");
        assert_eq!(render_removal(&Saved::parse(&left)), None);
        assert!(!Saved::parse(&left).has_ours());
        assert!(!left.contains("C17"));
    }
}

proptest! {
    #[test]
    fn parsing_is_total(text: String) {
        let saved = Saved::parse(&text);
        let _ = (verify(&RuleSet::new(&Options::default()), Family::V4, &saved), render_removal(&saved));
    }

    #[test]
    fn parsing_of_scrambled_rules_is_total(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "*filter", "*mangle", "*nat", ":C17", ":", "-A", "C17", "OUTPUT", "-j", "!", "--mark", "0x6b5/0x", "/",
                "0xffffffffff", "-m", "mark", "\n", "\n", "[", "]", "[1:2]", "COMMIT", "-o", "lo", "é", "\"", "DNAT",
            ]),
            0..60,
        )
    ) {
        let saved = Saved::parse(&words.join(" "));
        let _ = (verify(&RuleSet::new(&masked()), Family::V6, &saved), render_removal(&saved));
    }

    #[test]
    fn no_single_rule_can_go_unnoticed(index: prop::sample::Index, family in prop::sample::select(&Family::ALL[..])) {
        let text = as_saved(&Options::default(), family);
        let rules: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.starts_with("-A")).map(|(place, _)| place).collect();
        let gone = rules[index.index(rules.len())];
        let rest: Vec<_> = text.lines().enumerate().filter(|(place, _)| *place != gone).map(|(_, line)| line).collect();
        let saved = Saved::parse(&rest.join("\n"));
        prop_assert_eq!(verify(&RuleSet::new(&Options::default()), family, &saved).len(), 1);
    }
}
