use proto::policy::v1::{Action, Categories, Tunnel};
use verdict::policy::{file, model};

use super::*;

const TEXT: &str = "\
# curl, for the mirror only
name = \"curl\"

[[match]]
path = \"/usr/bin/curl\"

# what follows was agreed on in May

# the mirror
[[rule]]
action = \"allow\" # of old
remote = \"mirror.example\"

# the rest
[[rule]]
action = \"block\"

[settings]
block_lan = true # no printers
";

fn rule(action: Action, remote: &str) -> NewRule {
    NewRule {
        action: action.into(),
        remotes: vec![remote.to_owned()],
        remote_ports: vec!["443".into(), "8000-8999".into()],
        ..NewRule::default()
    }
}

fn profile(text: &str) -> model::Profile {
    file::parse_profile("curl", "curl.toml", text, &|_| None)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn actions(text: &str) -> Vec<&'static str> {
    profile(text)
        .rules
        .iter()
        .map(|rule| rule.action.text())
        .collect()
}

#[test]
fn a_rule_comes_in_at_its_place_and_all_else_stays() {
    for (number, expected) in [
        (0, ["drop", "allow", "block"]),
        (1, ["drop", "allow", "block"]),
        (2, ["allow", "drop", "block"]),
        (3, ["allow", "block", "drop"]),
        (9, ["allow", "block", "drop"]),
    ] {
        let text = add_rule(TEXT, &rule(Action::Drop, "10.0.0.0/8"), number).unwrap();
        assert_eq!(actions(&text), expected, "{number}:\n{text}");
        for line in TEXT.lines() {
            assert!(text.contains(line), "{line}");
        }
        assert!(text.contains("remote_port = [443, \"8000-8999\"]"), "{text}");
    }
}

#[test]
fn a_rule_goes_with_its_own_comment_and_no_other() {
    let text = remove_rule(TEXT, 1).unwrap();
    assert_eq!(actions(&text), ["block"]);
    assert!(
        !text.contains("# the mirror\n") && text.contains("# the rest") && text.contains("in May"),
        "{text}"
    );
    let text = remove_rule(&text, 1).unwrap();
    assert!(actions(&text).is_empty());
    assert!(
        text.contains("block_lan = true # no printers") && text.contains("in May"),
        "{text}"
    );
    assert_eq!(
        remove_rule(&text, 1),
        Err(EditError::NoRule { number: 1, rules: 0 })
    );
    assert_eq!(
        remove_rule(TEXT, 0),
        Err(EditError::NoRule { number: 0, rules: 2 })
    );
    assert_eq!(
        remove_rule(TEXT, 3),
        Err(EditError::NoRule { number: 3, rules: 2 })
    );
    assert_eq!(
        actions(&add_rule(&text, &rule(Action::Ask, "lan"), 0).unwrap()),
        ["ask"]
    );
}

#[test]
fn lists_in_one_line_are_changed_as_well() {
    let text = "match = [{ path = \"/usr/bin/curl\" }]\nrule = [{ action = \"allow\" }]\n";
    let more = add_rule(text, &rule(Action::Drop, "lan"), 0).unwrap();
    assert_eq!(actions(&more), ["drop", "allow"], "{more}");
    assert_eq!(actions(&remove_rule(&more, 2).unwrap()), ["drop"]);
}

#[test]
fn a_new_profile_is_one() {
    let of = NewMatch {
        path: "/usr/bin/curl".into(),
        user: "1000".into(),
        ..NewMatch::default()
    };
    let with_time = NewRule {
        expires: Some(prost_types::Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        }),
        note: "a \"note\"\nof two lines".into(),
        ..rule(Action::Allow, "example.org")
    };
    let text = new_profile(&of, &with_time).unwrap();
    let profile = profile(&text);
    assert_eq!(profile.matchers[0].uid, Some(1000));
    assert_eq!(profile.rules[0].note, with_time.note);
    assert!(profile.rules[0].expires.is_some(), "{text}");
    assert!(only_match(&of).contains("/usr/bin/curl"));
}

#[test]
fn what_cannot_be_written_is_named() {
    let nothing = NewRule::default();
    assert!(
        add_rule(TEXT, &nothing, 0)
            .unwrap_err()
            .to_string()
            .contains("rule.action")
    );
    assert!(matches!(
        add_rule("nonsense", &rule(Action::Allow, "lan"), 0),
        Err(EditError::Text(_))
    ));
    assert_eq!(
        add_rule("rule = 1", &rule(Action::Allow, "lan"), 0),
        Err(EditError::NoList)
    );
    let unknown = set_switches("", &Switches::default(), &["blok_lan".to_owned()]);
    assert!(unknown.unwrap_err().to_string().contains("blok_lan"));
}

#[test]
fn switches_are_set_and_taken_out_and_comments_stay() {
    let text = "# mine\n[settings]\nblock_lan = true # no printers\ndefault_action = \"ask\"\n";
    let switches = Switches {
        block_lan: Some(false),
        redirect_dns: Some(false),
        block_lists: Some(Categories {
            categories: vec!["malware".into()],
        }),
        tunnel: Some(Tunnel {
            hops: 2,
            ..Tunnel::default()
        }),
        ..Switches::default()
    };
    let changed = set_switches(text, &switches, &[]).unwrap();
    let global = file::parse_global("global.toml", &changed, &|_| None).unwrap();
    assert_eq!(
        (global.settings.block_lan, global.redirect_dns),
        (Some(false), false),
        "{changed}"
    );
    assert_eq!(global.settings.block_lists, Some(vec!["malware".to_owned()]));
    assert_eq!(
        global.settings.default_action,
        Some(model::Action::Ask),
        "it was not meant"
    );
    assert!(changed.contains("block_lan = false # no printers"), "{changed}");

    let fields = ["default_action".to_owned(), "tunnel".to_owned()];
    let without = set_switches(&changed, &Switches::default(), &fields).unwrap();
    let global = file::parse_global("global.toml", &without, &|_| None).unwrap();
    assert_eq!(global.settings.default_action, None, "{without}");
    assert_eq!(global.settings.tunnel, verdict::policy::tunnel::Tunnel::default());
    assert_eq!(global.settings.block_lan, Some(false), "it was not meant");
}
