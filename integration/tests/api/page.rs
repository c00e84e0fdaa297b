//! The web page in a real browser, as its owner uses it.

use std::{env, path::Path, process::Command};

use integration::{Service, World, process::run, world::INTERNET_V4};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PORT: u16 = 8710;

/// Chromium and a copy of nc, at whose connections it looks; `page.mjs` says what is wanted, and prints what it found.
#[test]
fn connections_are_seen_and_ruled_in_a_browser_by_mouse_and_keyboard_at_any_width() {
    let world = World::builder("page")
        .with(Service::Dns)
        .with(Service::Gate17Entry)
        .with(Service::ApiGateway)
        .start();
    world.internet.echo(INTERNET_V4, PORT);
    let app = world.app("talker");
    let web = Path::new(REPOSITORY).join("web");
    assert!(
        web.join("node_modules/playwright-core").exists(),
        "what drives the browser is missing: make web"
    );
    let pictures = world.root().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let mut browser: Command = world.command(node());
    browser
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/page.mjs"))
        .arg(&pictures)
        .arg(app.path())
        .args([INTERNET_V4.to_string(), PORT.to_string()])
        .env("WEB", web);
    println!("{}", run(&mut browser));
}

/// As `scripts/web` finds it.
fn node() -> String {
    let ours = Path::new(REPOSITORY).join("target/node/bin/node");
    if ours.exists() {
        ours.display().to_string()
    } else {
        "node".to_owned()
    }
}
