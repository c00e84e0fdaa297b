//! The scenes, in the order in which they are played, and the profiles that they are played under.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use super::{
    Cast,
    stage::{AT_ONCE, Stage, Wanted},
};
use crate::try_cmd::playground::{ALLOWED, BLOCKED, DROPPED, HOME_V4, HOME_V6, NEIGHBOUR_V4, Site};

const NAMESERVER_V4: &str = "203.0.113.53";
const NAMESERVER_V6: &str = "2001:db8:17::53";
/// Port that the host may be called on, and one that it may not.
const OPEN: &str = "8080";
const CLOSED: &str = "8081";

/// Connects, and says what became of it. Arguments: address, port.
const CONNECT: &str = "
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).close()
except OSError as error:
    sys.exit(f'{type(error).__name__}: {error}')
";

/// Has the kernel, not a process, send: it joins a multicast group, and the kernel tells the routers (RFC 3376).
const JOIN_GROUP: &str = "
import socket, struct, sys
member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('239.17.17.17') + socket.inet_aton(sys.argv[1]))
";

/// (id, text) of each profile.
pub(super) fn profiles(cast: &Cast) -> Vec<(&'static str, String)> {
    let python = format!(
        "{}{}",
        profile("python", &cast.python, "block"),
        rule("allow", "in", &format!("local_port = [{OPEN}]"))
    );
    let nc = format!(
        "{}{}",
        profile("nc", &cast.nc, "allow"),
        rule("drop", "out", &remotes(&DROPPED))
    );
    let ping = format!(
        "{}{}",
        profile("ping", &cast.ping, "allow"),
        rule("block", "out", &remotes(&BLOCKED))
    );
    let dig = format!(
        "{}{}",
        profile("dig", &cast.dig, "allow"),
        rule("block", "out", &format!("remote = {:?}", BLOCKED.name))
    );
    let unknown =
        "name = \"Nobody known\"\n[[match]]\nunknown = true\n[settings]\ndefault_action = \"drop\"\n"
            .to_owned();
    vec![
        ("curl", profile("curl", &cast.curl, "allow")),
        ("dig", dig),
        ("nc", nc),
        ("ping", ping),
        ("python", python),
        ("unknown", unknown),
    ]
}

fn profile(name: &str, path: &Path, default_action: &str) -> String {
    let path = path.display();
    format!(
        "name = {name:?}\n[[match]]\npath = \"{path}\"\n[settings]\ndefault_action = {default_action:?}\n"
    )
}

fn rule(action: &str, direction: &str, rest: &str) -> String {
    format!("[[rule]]\naction = {action:?}\ndirection = {direction:?}\n{rest}\n")
}

fn remotes(site: &Site) -> String {
    format!("remote = [{:?}, {:?}]", site.v4, site.v6)
}

/// All of them.
pub(super) async fn play(stage: &mut Stage<'_>) -> Result<()> {
    allowed(stage).await?;
    names(stage).await?;
    blocked(stage).await?;
    dropped(stage).await?;
    pinged(stage).await?;
    unknown(stage).await?;
    incoming(stage).await?;
    changed_under_a_live_connection(stage).await
}

async fn allowed(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Allowed: curl fetches from allowed.example, over IPv4, IPv6 and TLS");
    let curl = stage.cast.curl.clone();
    let certificate = stage
        .world
        .folder()
        .join("site.crt")
        .to_string_lossy()
        .into_owned();
    for (family, address) in [("-4", ALLOWED.v4), ("-6", ALLOWED.v6)] {
        let got = stage
            .inside(&curl, &[family, "-sS", "-m", "20", "http://allowed.example/"])
            .await?;
        stage.check(
            got.success && got.text.starts_with("Hello"),
            &format!("curl {family} got: {}", got.text),
        );
        stage.said(out(&curl, address, "allow")).await;
    }
    let got = stage
        .inside(
            &curl,
            &[
                "-sS",
                "-m",
                "20",
                "--cacert",
                &certificate,
                "https://allowed.example/",
            ],
        )
        .await?;
    stage.check(
        got.success && got.text.starts_with("Hello"),
        &format!("curl with TLS got: {}", got.text),
    );
    Ok(())
}

async fn names(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Names: dig asks a server on the internet, and is answered by the one of this host");
    let dig = stage.cast.dig.clone();
    for (server, kind, answer) in [
        (NAMESERVER_V4, "A", ALLOWED.v4),
        (NAMESERVER_V6, "AAAA", ALLOWED.v6),
    ] {
        let got = stage
            .inside(&dig, &["+short", &format!("@{server}"), "allowed.example", kind])
            .await?;
        stage.check(
            got.success && got.text == answer,
            &format!("dig {kind} got: {}", got.text),
        );
        stage.said(out(&dig, server, "redirect-dns")).await;
    }
    stage.scene("Names: what dig may not know is never asked for");
    let got = stage
        .inside(&dig, &[&format!("@{NAMESERVER_V4}"), BLOCKED.name])
        .await?;
    stage.check(
        got.success && got.text.contains("NXDOMAIN") && got.text.contains("dig#1"),
        "dig is told that there is no such name, and by which rule",
    );
    Ok(())
}

async fn blocked(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Blocked: python3 may not leave, and is told so at once");
    let python = stage.cast.python.clone();
    for address in [BLOCKED.v4, BLOCKED.v6] {
        let got = stage.inside(&python, &["-c", CONNECT, address, "443"]).await?;
        let at_once = !got.success && got.took < AT_ONCE && !got.text.contains("timed out");
        stage.check(
            at_once,
            &format!(
                "python3 got, within {} ms of its start: {}",
                got.took.as_millis(),
                got.text
            ),
        );
        stage.said(out(&python, address, "block")).await;
    }
    Ok(())
}

async fn dropped(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Dropped: nc to dropped.example hears nothing");
    let nc = stage.cast.nc.clone();
    for address in [DROPPED.v4, DROPPED.v6] {
        let got = stage.inside(&nc, &["-z", "-w", "2", address, "80"]).await?;
        let silent = !got.success && got.took >= AT_ONCE;
        stage.check(
            silent,
            &format!("nc gave up after {:.1} s", got.took.as_secs_f32()),
        );
        stage.said(out(&nc, address, "drop")).await;
    }
    Ok(())
}

async fn pinged(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Not only TCP: ping reaches allowed.example, and is refused blocked.example");
    let ping = stage.cast.ping.clone();
    for address in [ALLOWED.v4, ALLOWED.v6] {
        let got = stage
            .inside(&ping, &["-n", "-c", "1", "-W", "10", address])
            .await?;
        stage.check(got.success, &format!("ping {address} got an answer"));
        stage.said(out(&ping, address, "allow")).await;
    }
    for address in [BLOCKED.v4, BLOCKED.v6] {
        let got = stage
            .inside(&ping, &["-n", "-c", "1", "-W", "2", address])
            .await?;
        stage.check(!got.success, &format!("ping {address} got none"));
        stage.said(out(&ping, address, "block")).await;
    }
    Ok(())
}

async fn unknown(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene(
        "Unknown process: the kernel itself announces a multicast group; no program's socket sends that",
    );
    let python = stage.cast.python.clone();
    let got = stage.inside(&python, &["-c", JOIN_GROUP, HOME_V4]).await?;
    stage.check(got.success, "python3 joined a group");
    stage
        .said(Wanted {
            app: None,
            direction: "out",
            remote: "224.0.0.22",
            verdict: "drop",
        })
        .await;
    Ok(())
}

async fn incoming(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Incoming: a neighbour calls two servers here; only one of them may be called");
    let (python, curl, nc) = (
        stage.cast.python.clone(),
        stage.cast.curl.clone(),
        stage.cast.nc.clone(),
    );
    let mut server = stage.world.command(&python)?;
    server.args([
        "-m",
        "http.server",
        "--directory",
        "/run/netns",
        "--bind",
        "::",
        OPEN,
    ]);
    let _server = quiet(&mut server)?;
    let _other = quiet(stage.world.command(&nc)?.args(["-l", "-k", CLOSED]))?;
    let listening = stage
        .until(async || listens(stage, OPEN).await && listens(stage, CLOSED).await)
        .await;
    stage.check(listening, "both servers listen");
    for url in [
        format!("http://{HOME_V4}:{OPEN}/"),
        format!("http://[{HOME_V6}]:{OPEN}/"),
    ] {
        let got = stage
            .outside(&curl, &["-sS", "-m", "20", "-o", "/dev/null", &url])
            .await?;
        stage.check(got.success, &format!("the neighbour got {url} {}", got.text));
    }
    stage
        .said(Wanted {
            app: Some(&python),
            direction: "in",
            remote: NEIGHBOUR_V4,
            verdict: "allow",
        })
        .await;
    let got = stage.outside(&nc, &["-z", "-w", "2", HOME_V4, CLOSED]).await?;
    stage.check(!got.success, "the neighbour did not get through to the other one");
    stage
        .said(Wanted {
            app: Some(&nc),
            direction: "in",
            remote: NEIGHBOUR_V4,
            verdict: "drop",
        })
        .await;
    Ok(())
}

async fn listens(stage: &Stage<'_>, port: &str) -> bool {
    let sockets = stage.inside("ss", &["-Hltn", &format!("sport = {port}")]).await;
    sockets.is_ok_and(|sockets| sockets.success && !sockets.text.is_empty())
}

async fn changed_under_a_live_connection(stage: &mut Stage<'_>) -> Result<()> {
    stage.scene("Changed: nc talks with an echo server; then its profile says block");
    let nc = stage.cast.nc.clone();
    let mut calls = Vec::new();
    for address in [ALLOWED.v4, ALLOWED.v6] {
        let mut call = Call::open(stage, &nc, address)?;
        let echoed = call.echoes("hello").await;
        stage.check(echoed, &format!("{address} echoes"));
        stage.said(out(&nc, address, "allow")).await;
        calls.push((address, call));
    }
    stage.profile("nc", &profile("nc", &nc, "block"))?;
    for (address, mut call) in calls {
        stage.said(out(&nc, address, "block")).await;
        let echoed = call.echoes("still there?").await;
        stage.check(!echoed, &format!("{address} is not heard any more"));
    }
    Ok(())
}

/// A live connection of nc with an echo server.
struct Call {
    _nc: Child,
    mouth: ChildStdin,
    ear: Lines<BufReader<ChildStdout>>,
}

impl Call {
    fn open(stage: &Stage<'_>, nc: &Path, address: &str) -> Result<Self> {
        let mut command = stage.world.command(nc)?;
        command
            .args([address, "7"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut nc = command
            .stderr(std::process::Stdio::null())
            .spawn()
            .context("start nc")?;
        let mouth = nc.stdin.take().context("nc has no standard input")?;
        let ear = BufReader::new(nc.stdout.take().context("nc has no standard output")?).lines();
        Ok(Self { _nc: nc, mouth, ear })
    }

    /// Whether a line comes back.
    async fn echoes(&mut self, line: &str) -> bool {
        if self
            .mouth
            .write_all(format!("{line}\n").as_bytes())
            .await
            .is_err()
        {
            return false;
        }
        match timeout(AT_ONCE, self.ear.next_line()).await {
            Ok(Ok(Some(heard))) => heard == line,
            _ => false,
        }
    }
}

fn quiet(command: &mut tokio::process::Command) -> Result<Child> {
    use std::process::Stdio;
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .spawn()
        .with_context(|| format!("start {:?}", command.as_std()))
}

fn out<'a>(app: &'a Path, remote: &'a str, verdict: &'a str) -> Wanted<'a> {
    Wanted {
        app: Some(app),
        direction: "out",
        remote,
        verdict,
    }
}
