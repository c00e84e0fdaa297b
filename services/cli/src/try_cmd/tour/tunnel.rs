//! The tour of the tunnel: one curl goes directly, one by three nodes, and a web server says whom it sees.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    Cast,
    stage::{Outcome, Stage},
    write_profile,
};
use crate::try_cmd::{
    network::Node,
    playground::{ALLOWED, HOME_V4},
};

/// Who is tunnelled: "nobody", by number, for accounts are not the same everywhere.
const NOBODY: &str = "65534";
const HOPS: usize = 3;
/// Fetches of each, the first of which builds what it needs.
const TIMES: usize = 3;
/// What curl says beside the page: milliseconds are made of them.
const SPOKEN: &str = "%{time_namelookup} %{time_connect} %{time_starttransfer}";

/// Writes the profile of the tunnelled program.
pub(in super::super) fn config(folder: &Path) -> Result<()> {
    let cast = Cast::assemble()?;
    let profiles = folder.join("profiles.d");
    fs::create_dir_all(&profiles).with_context(|| format!("make {}", profiles.display()))?;
    let text = format!(
        "name = \"curl of nobody\"\n[[match]]\npath = \"{}\"\nuser = {NOBODY}\n[settings]\ndefault_action = \"tunnel\"\n[tunnel]\nhops = {HOPS}\n",
        cast.curl.display()
    );
    write_profile(folder, "tunnelled", &text)
}

/// For a command of somebody's own: all that it connects to goes through.
pub(in super::super) fn config_for_all(folder: &Path) -> Result<()> {
    let profiles = folder.join("profiles.d");
    fs::create_dir_all(&profiles).with_context(|| format!("make {}", profiles.display()))?;
    write_profile(folder, "global", "[settings]\ndefault_action = \"tunnel\"\n")
}

/// What a fetch told.
struct Fetched {
    seen: String,
    name_ms: f64,
    connect_ms: f64,
    first_ms: f64,
}

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Side by side: curl asks a web server whom it sees, directly as root, tunnelled as nobody");
    let direct = fetches(stage, false).await?;
    let tunnelled = fetches(stage, true).await?;
    let curl = stage.cast.curl.clone();
    let event = stage
        .found(|event| {
            event.verdict == "tunnel"
                && event.hops.len() == HOPS
                && event.remote == ALLOWED.v4
                && event
                    .process
                    .as_ref()
                    .is_some_and(|process| Path::new(&process.path) == curl)
        })
        .await;
    let hops = event.map(|event| event.hops).unwrap_or_default();
    let (Some(direct), Some(tunnelled)) = (direct, tunnelled) else {
        return Ok(());
    };
    table(&direct, &tunnelled, &hops);
    stage.check(
        direct.seen == HOME_V4,
        &format!("directly, the server saw this host: {}", direct.seen),
    );
    let exit = Node::all().find(|node| Some(node.name) == hops.last().map(String::as_str));
    let by = exit.map_or_else(|| "no exit".to_owned(), |exit| exit.name.to_owned());
    let is_exits =
        Node::all().any(|node| node.is_exit && node.name == by && node.address() == tunnelled.seen);
    stage.check(
        is_exits,
        &format!("through the tunnel, it saw the exit, {by}: {}", tunnelled.seen),
    );
    stage.check(
        hops.len() == HOPS,
        &format!("the firewall reported the path: {}", path(&hops)),
    );
    told(stage).await?;
    lost(stage, &by).await
}

/// Several of one kind; the last one counts, the first built what it needed.
async fn fetches(stage: &mut Stage<'_>, is_tunnelled: bool) -> Result<Option<Fetched>> {
    let mut last = None;
    for _ in 0..TIMES {
        let got = fetch(stage, is_tunnelled).await?;
        last = read(&got);
        if last.is_none() {
            let how = if is_tunnelled { "tunnelled" } else { "direct" };
            stage.check(false, &format!("curl, {how}, got: {}", got.text));
            break;
        }
    }
    Ok(last)
}

async fn fetch(stage: &Stage<'_>, is_tunnelled: bool) -> Result<Outcome> {
    let curl = stage.cast.curl.display().to_string();
    let url = format!("http://{}/address", ALLOWED.name);
    let words = [curl.as_str(), "-4", "-sS", "-m", "20", "-w", SPOKEN, &url];
    if !is_tunnelled {
        return stage
            .inside(&stage.cast.curl, words.get(1..).unwrap_or_default())
            .await;
    }
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    let before = [&user, &group, "--clear-groups", "--pdeathsig", "KILL", "--"];
    stage
        .inside("setpriv", &[&before, words.as_slice()].concat())
        .await
}

fn read(got: &Outcome) -> Option<Fetched> {
    let mut lines = got.text.lines();
    let seen = lines.next()?.to_owned();
    let mut times = lines
        .next()?
        .split(' ')
        .map(|time| time.parse::<f64>().map(|seconds| seconds * 1e3));
    // all since the beginning
    let (name, connected, first) = (times.next()?.ok()?, times.next()?.ok()?, times.next()?.ok()?);
    let fetched = Fetched {
        seen,
        name_ms: name,
        connect_ms: connected - name,
        first_ms: first - connected,
    };
    got.success.then_some(fetched)
}

fn path(hops: &[String]) -> String {
    let region = |hop: &String| {
        let node = Node::all().find(|node| node.name == hop);
        node.map_or_else(
            || hop.clone(),
            |node| format!("{} ({}, {})", node.name, node.region, node.address()),
        )
    };
    hops.iter().map(region).collect::<Vec<_>>().join(" → ")
}

#[expect(clippy::print_stdout, reason = "the tour is there to be read")]
fn table(direct: &Fetched, tunnelled: &Fetched, hops: &[String]) {
    let ms = |time: f64| format!("{time:.1} ms");
    let rows = [
        ("", "DIRECT".to_owned(), "TUNNELLED".to_owned()),
        ("path", format!("this host → {}", ALLOWED.v4), {
            let hops: Vec<_> = hops.iter().map(String::as_str).collect();
            format!("this host → {} → {}", hops.join(" → "), ALLOWED.v4)
        }),
        ("the server sees", direct.seen.clone(), tunnelled.seen.clone()),
        ("name known in", ms(direct.name_ms), ms(tunnelled.name_ms)),
        ("connected in", ms(direct.connect_ms), ms(tunnelled.connect_ms)),
        ("first octet in", ms(direct.first_ms), ms(tunnelled.first_ms)),
    ];
    for (what, direct, tunnelled) in rows {
        println!("    {what:<16} {direct:<28} {tunnelled}");
    }
}

/// An exit is gone: what comes next goes by another.
async fn lost(stage: &mut Stage<'_>, exit: &str) -> Result<()> {
    stage.scene(&format!("Lost: node {exit} is killed; curl asks again"));
    let is_gone = stage.world.lose(exit);
    stage.check(is_gone, &format!("{exit} is gone"));
    let got = fetch(stage, true).await?;
    let fetched = read(&got);
    let other = Node::all().find(|node| {
        let saw = fetched
            .as_ref()
            .is_some_and(|fetched| fetched.seen == node.address());
        node.is_exit && node.name != exit && saw
    });
    let how = match &other {
        Some(other) => format!(
            "the server saw the other exit, {}: {}",
            other.name,
            other.address()
        ),
        None => format!("curl got: {}", got.text),
    };
    stage.check(other.is_some(), &how);
    Ok(())
}

/// What the command line tells of it.
#[expect(clippy::print_stdout, reason = "the tour is there to be read")]
async fn told(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Told by the command line: portmaster gate17 status, circuits, speed");
    let own = std::env::current_exe().context("find our own program")?;
    for (words, holds) in [
        (&["status"][..], "network box"),
        (&["circuits"], "ready"),
        (&["speed", "--seconds", "1"], "Mbit/s"),
    ] {
        let all = [&["--color", "never", "gate17"], words].concat();
        let got = stage.inside(&own, &all).await?;
        for line in got.text.lines() {
            println!("    {line}");
        }
        stage.check(
            got.success && got.text.contains(holds),
            &format!("portmaster gate17 {}", words.join(" ")),
        );
    }
    Ok(())
}
