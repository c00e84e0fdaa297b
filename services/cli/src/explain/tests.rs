use clap::Parser;

use super::*;
use crate::args::{Cli, Color, Command};

fn explained(profile: &str, words: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("profiles.d")).unwrap();
    std::fs::write(folder.path().join("profiles.d/app.toml"), profile).unwrap();
    let config = folder.path().to_str().unwrap();
    let line = ["portmaster", "explain", "--config", config]
        .into_iter()
        .chain(words.split_whitespace());
    let Command::Explain(args) = Cli::parse_from(line).command else {
        panic!("not explain")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let process = subject::process(&args.subject, &args.place).await.unwrap();
        let Target { flows, domain } = target::target(&args).await.unwrap();
        let judge = Judge::new(&args).unwrap();
        let mut text = String::new();
        for flow in flows {
            let question = Question {
                process: process.clone(),
                flow,
                domain: domain.clone(),
            };
            text += &judge
                .answer(question, &args.place)
                .await
                .unwrap()
                .text(Paint::for_stdout(Color::Never));
        }
        text
    })
}

const APP: &str = r#"
[[match]]
path = "/opt/app"

[[rule]]
action = "block"
remote = "192.0.2.0/24"

[[rule]]
action = "drop"
remote = "*.example.com"
"#;

#[test]
fn the_rule_that_decides_is_named() {
    let text = explained(APP, "--program /opt/app --user 7 --to 192.0.2.1:443");
    assert!(
        text.starts_with(
            "block  by app#1 (rule)\n    /opt/app, uid 7 → 192.0.2.1:443, tcp, internet, profile app\n"
        ),
        "{text}"
    );
}

#[test]
fn a_name_counts_and_addresses_may_be_given() {
    let text = explained(
        APP,
        "--program /opt/app --to www.example.com:443 --address 198.51.100.1 --address 2001:db8::1",
    );
    assert_eq!(text.matches("drop  by app#2 (rule)").count(), 2, "{text}");
    assert!(
        text.contains("→ www.example.com:443 (2001:db8::1), tcp"),
        "{text}"
    );
}

#[test]
fn another_program_gets_the_defaults() {
    let text = explained(APP, "--program /opt/other --to 192.0.2.1:443");
    assert!(text.starts_with("allow  by shipped#"), "{text}");
    assert!(text.contains("no profile"), "{text}");
}

#[test]
fn incoming_connections_are_refused_as_shipped() {
    let text = explained(APP, "--unknown --in --from 203.0.113.5:22");
    assert!(
        text.starts_with("drop  by shipped#block_incoming (block-incoming)"),
        "{text}"
    );
    assert!(
        text.contains("a process that cannot be found :22 ← 203.0.113.5, tcp, internet"),
        "{text}"
    );
}

#[test]
fn a_ping_has_no_port() {
    let text = explained(APP, "--program /opt/app --to 192.0.2.1 --protocol icmp");
    assert!(text.contains("→ 192.0.2.1 type 8, icmp, internet"), "{text}");
}
