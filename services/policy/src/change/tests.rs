use std::{fs, path::Path};

use proto::policy::v1::Action;
use verdict::policy::model::Snapshot;

use super::*;

struct Desk {
    folder: tempfile::TempDir,
    current: Snapshot,
}

const CURL: &str = "[[match]]\npath = \"/usr/bin/curl\"\n[settings]\ndefault_action = \"block\"\n";

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut current = verdict::policy::shipped().unwrap();
        for (id, text) in files {
            let path = format!("{id}.toml");
            fs::write(folder.path().join(&path), text).unwrap();
            if *id == "global" {
                current.global = file::parse_global(&path, text, &|_| None).unwrap();
            } else {
                let profile = file::parse_profile(id, &path, text, &|_| None).unwrap();
                current.profiles.push(profile);
            }
        }
        Self { folder, current }
    }

    fn plan(&self, change: &Change) -> Result<Plan, ChangeError> {
        Plan::new(
            change,
            &Where {
                folder: self.folder.path(),
                current: &self.current,
                users: &|_| None,
                is_there: &|_| false,
                now: daemon::clock::now(),
            },
        )
    }

    fn refused(&self, id: &str, edit: Edit) -> String {
        self.plan(&change(id, edit)).unwrap_err().to_string()
    }
}

fn change(id: &str, edit: Edit) -> Change {
    Change {
        id: id.to_owned(),
        edit,
        expected_revision: None,
        force: false,
        dry_run: false,
        probes: Vec::new(),
    }
}

fn add(path: &str) -> Edit {
    Edit::AddRule {
        rule: Box::new(NewRule {
            action: Action::Allow.into(),
            remotes: vec!["example.org".into()],
            ..NewRule::default()
        }),
        number: 0,
        of: Some(Box::new(NewMatch {
            path: path.into(),
            ..NewMatch::default()
        })),
    }
}

fn probe(program: &str, domain: &str, vital: &str) -> Probe {
    Probe {
        process: Some(Process {
            executable: verdict::Executable {
                path: Some(Path::new(program).to_owned()),
                ..verdict::Executable::default()
            },
            ..Process::default()
        }),
        flow: Flow {
            direction: verdict::Direction::Outgoing,
            protocol: verdict::Protocol::TCP,
            local: verdict::Endpoint::new([10, 0, 0, 1].into(), 5000),
            remote: verdict::Endpoint::new([203, 0, 113, 5].into(), 443),
        },
        domain: domain.to_owned(),
        vital: vital.to_owned(),
    }
}

#[test]
fn a_rule_is_shown_by_what_it_does_before_it_is_made() {
    let desk = Desk::new(&[("curl", CURL)]);
    let mut asked = change("curl", add("/usr/bin/curl"));
    asked.probes = vec![
        probe("/usr/bin/curl", "other.example", ""),
        probe("/usr/bin/curl", "example.org", ""),
        probe("/usr/bin/wget", "example.org", ""),
    ];
    let plan = desk.plan(&asked).unwrap();
    let outcome = &plan.outcome;
    assert!(outcome.diff.contains("+action = \"allow\"") && outcome.diff.contains("--- curl.toml"));
    let effects: Vec<_> = outcome
        .effects
        .iter()
        .map(|effect| {
            let verdict = |explained: &Explanation| explained.decision.verdict.text();
            (effect.probe, verdict(&effect.before), verdict(&effect.after))
        })
        .collect();
    assert_eq!(effects, [(0, "block", "block"), (1, "block", "allow")]);
    assert!(outcome.lost.is_empty() && !outcome.saved);
    assert_eq!(
        fs::read_to_string(&plan.path).unwrap(),
        CURL,
        "nothing is written"
    );
}

#[test]
fn the_profile_of_a_program_is_found_or_made() {
    let desk = Desk::new(&[("own-words", CURL), ("wget", CURL)]);
    assert_eq!(
        desk.plan(&change("", add("/usr/bin/curl"))).unwrap().outcome.id,
        "own-words"
    );
    let made = desk.plan(&change("", add("/opt/wget"))).unwrap().outcome;
    assert_eq!(
        (made.id.as_str(), made.before.revision().as_str()),
        ("wget-2", "")
    );
    assert!(
        desk.plan(&change("", add("/opt/..")))
            .unwrap_err()
            .to_string()
            .contains("new profile:")
    );
    assert_eq!(
        desk.plan(&change("", add("/opt/global"))).unwrap().outcome.id,
        "profile"
    );

    let glob = "[[match]]\npath = \"/opt/**\"\n";
    let desk = Desk::new(&[("all", glob)]);
    let made = desk.plan(&change("", add("/opt/wget"))).unwrap().outcome;
    assert!(made.warnings[0].contains("profile \"all\" until now"), "{made:?}");
}

#[test]
fn another_revision_is_another_file() {
    let desk = Desk::new(&[("curl", CURL)]);
    let ask = |id, expected: &str| {
        let mut asked = change(id, Edit::Write(CURL.to_owned()));
        asked.expected_revision = Some(expected.to_owned());
        desk.plan(&asked)
    };
    let revision = ask("new", "").unwrap().outcome.after.revision();
    ask("curl", &revision).unwrap();
    for (id, expected, part) in [
        ("curl", "", revision.as_str()),
        ("curl", "nonsense", &revision),
        ("gone", &revision, "any more"),
    ] {
        let said = ask(id, expected).unwrap_err();
        assert!(matches!(said, ChangeError::Revision { .. }), "{said}");
        assert!(said.to_string().contains(part), "{said}");
    }
}

#[test]
fn what_is_lost_is_named() {
    let desk = Desk::new(&[]);
    let mut asked = change(
        "global",
        Edit::Write("[settings]\nblock_internet = true\n".to_owned()),
    );
    asked.probes = vec![probe("/usr/sbin/sshd", "", "the SSH session from 203.0.113.5")];
    let lost = desk.plan(&asked).unwrap().outcome.lost;
    assert_eq!(lost.len(), 1, "{lost:?}");
    let said = ChangeError::LockedOut(lost).to_string();
    assert!(
        said.contains("SSH session from 203.0.113.5") && said.contains("global#block_internet"),
        "{said}"
    );

    // a pause is no reason to see nothing
    let mut paused = Desk::new(&[]);
    let hour = std::time::Duration::from_secs(3600);
    paused.current.pause = verdict::policy::model::Pause::new(daemon::clock::now(), hour);
    assert_eq!(paused.plan(&asked).unwrap().outcome.lost.len(), 1);
}

#[test]
fn what_is_no_profile_is_refused_with_its_line() {
    let desk = Desk::new(&[("curl", CURL)]);
    let write = |text: &str| Edit::Write(text.to_owned());
    assert!(
        desk.refused("curl", write("nonsense = 1"))
            .contains("curl.toml:1: ")
    );
    for id in ["../curl", "a/b", ".hidden", "shipped", "a b"] {
        assert!(!desk.refused(id, write(CURL)).is_empty(), "{id}");
    }
    assert!(desk.refused("", write(CURL)).contains("id is missing"));
    assert!(desk.refused("none", Edit::Remove).contains("no profile \"none\""));
    assert!(desk.refused("curl", Edit::RemoveRule(1)).contains("no rule 1"));
    assert!(
        desk.refused("curl", write(&"#".repeat(2 << 20)))
            .contains("larger than")
    );
    let none = Edit::AddRule {
        rule: Box::default(),
        number: 0,
        of: None,
    };
    assert!(desk.refused("new", none).contains("no profile \"new\""));
}

#[test]
fn a_profile_and_the_global_file_can_go() {
    let desk = Desk::new(&[("curl", CURL), ("global", "[settings]\nblock_lan = true\n")]);
    for id in ["curl", "global"] {
        let outcome = desk.plan(&change(id, Edit::Remove)).unwrap().outcome;
        assert_eq!(outcome.after.revision(), "");
        assert!(outcome.diff.contains("\n-"), "{}", outcome.diff);
    }
}
