//! `portmaster start`, `confirm` and `stop`: the units of this host, through systemd.
//!
//! A start that waits for its confirmation goes back by a timer of systemd's own, set before anything starts: it rings also
//! where this program, its terminal and the session that it came from are gone.

use std::{io::IsTerminal as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{io::AsyncReadExt as _, process::Command};

use crate::{args::StartArgs, check_host, dns::setup, output::print, printable::printable};

const TARGET: &str = "portmaster.target";
/// All that the target holds: who stops it waits for them.
const ALL: [&str; 21] = [
    TARGET,
    "portmaster-interceptor.socket",
    "portmaster-interceptor.service",
    "portmaster-process-resolver.socket",
    "portmaster-process-resolver.service",
    "portmaster-policy.socket",
    "portmaster-policy.service",
    "portmaster-dns.socket",
    "portmaster-dns-own.socket",
    "portmaster-dns-v4.socket",
    "portmaster-dns-v6.socket",
    "portmaster-dns.service",
    "portmaster-gate17-entry.socket",
    "portmaster-gate17-entry-v4.socket",
    "portmaster-gate17-entry-v6.socket",
    "portmaster-gate17-entry.service",
    "portmaster-api-gateway.socket",
    "portmaster-api-gateway-v4.socket",
    "portmaster-api-gateway-v6.socket",
    "portmaster-api-gateway.service",
    "portmaster-lockdown.service",
];
const UNCONFIRMED: &str = "portmaster-unconfirmed";
/// Between two looks whether somebody confirmed elsewhere.
const LOOK: Duration = Duration::from_millis(500);

/// `portmaster start`
pub(crate) async fn start(args: &StartArgs) -> Result<ExitCode> {
    need_systemd()?;
    if is_active(TARGET).await? {
        print("it runs already\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    check_host::warn().await;
    let Some(seconds) = args.confirm else {
        systemctl(&["start", TARGET]).await?;
        print("it runs\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    set_timer(seconds).await?;
    if let Err(error) = systemctl(&["start", TARGET]).await {
        // whatever stands by now is taken down at once, not later
        let stopped = systemctl(&stop_words()).await.and(take_timer_away().await);
        return Err(stopped
            .err()
            .map_or(error, |also| also.context("start, and go back")));
    }
    let timer = format!("{UNCONFIRMED}.timer");
    let has_terminal = std::io::stdin().is_terminal();
    let how = if has_terminal {
        "press Enter, or run `portmaster confirm` in another session"
    } else {
        "`portmaster confirm` confirms"
    };
    print(&format!(
        "it runs; unless confirmed it goes back in {seconds} s: {how}\n"
    ))?;
    if !has_terminal {
        return Ok(ExitCode::SUCCESS);
    }
    tokio::select! {
        pressed = enter() => {
            pressed?;
            confirm().await
        }
        over = timer_ends(&timer) => {
            over?;
            let stays = is_active(TARGET).await?;
            print(if stays { "confirmed elsewhere\n" } else { "nobody confirmed: it went back\n" })?;
            Ok(if stays { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// `portmaster confirm`
pub(crate) async fn confirm() -> Result<ExitCode> {
    need_systemd()?;
    ensure!(
        is_unconfirmed().await?,
        "nothing waits for a confirmation: `portmaster start --confirm SECONDS` makes it wait"
    );
    take_timer_away().await?;
    // it may have rung a moment before
    ensure!(
        !is_active(&format!("{UNCONFIRMED}.service")).await?,
        "too late: it goes back already; start it again"
    );
    print("confirmed: it stays\n")?;
    Ok(ExitCode::SUCCESS)
}

/// `portmaster stop`
pub(crate) async fn stop() -> Result<ExitCode> {
    need_systemd()?;
    // first, while names are answered; what keeps it from being done does not keep anybody from stopping
    match setup::take_back().await {
        Ok(false) => {}
        Ok(true) => {
            print(
                "this host's name servers are as they were: after a start, `portmaster dns enable` sets ours again\n",
            )?;
        }
        Err(error) => eprintln!("portmaster: {}", printable(&format!("{error:#}"))),
    }
    systemctl(&stop_words()).await?;
    // nothing is left to go back from
    if is_unconfirmed().await? {
        take_timer_away().await?;
    }
    print("it is stopped: everything passes\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Whether its owner stopped it here, or never started it: nothing of it runs, and no rule of it stands.
pub(crate) async fn is_stopped() -> Result<bool> {
    if need_systemd().is_err() {
        return Ok(false);
    }
    let (target, rules) = tokio::try_join!(is_active(TARGET), is_active("portmaster-lockdown.service"))?;
    Ok(!target && !rules)
}

/// Whether a start waits for its confirmation.
pub(crate) async fn is_unconfirmed() -> Result<bool> {
    Ok(need_systemd().is_ok() && is_active(&format!("{UNCONFIRMED}.timer")).await?)
}

/// Whether the target comes up with the system (systemctl(1), is-enabled). Without systemd nobody can tell.
pub(crate) async fn starts_at_boot() -> Result<bool> {
    if need_systemd().is_err() {
        return Ok(true);
    }
    let mut command = Command::new("systemctl");
    let output = command.args(["is-enabled", TARGET]).output().await;
    let said = output.context("run systemctl")?.stdout;
    Ok(matches!(
        String::from_utf8_lossy(&said).trim(),
        "enabled" | "alias" | "static" | "indirect" | "generated"
    ))
}

fn stop_words() -> Vec<&'static str> {
    std::iter::once("stop").chain(ALL).collect()
}

fn need_systemd() -> Result<()> {
    // sd_booted(3)
    ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "systemd does not run here: `portmaster up` runs the services in the foreground"
    );
    Ok(())
}

async fn set_timer(seconds: u32) -> Result<()> {
    // one that was left would make the next fail
    systemctl(&["stop", &format!("{UNCONFIRMED}.timer")]).await.ok();
    let mut command = Command::new("systemd-run");
    command
        .arg(format!("--unit={UNCONFIRMED}"))
        .arg("--description=Portmaster: goes back, since nobody confirmed")
        .arg(format!("--on-active={seconds}s"))
        .arg("--timer-property=AccuracySec=100ms")
        .args(["--quiet", "systemctl"])
        .args(stop_words());
    succeed(command, "systemd-run").await
}

async fn take_timer_away() -> Result<()> {
    systemctl(&["stop", &format!("{UNCONFIRMED}.timer")]).await
}

async fn timer_ends(timer: &str) -> Result<()> {
    while is_active(timer).await? {
        tokio::time::sleep(LOOK).await;
    }
    // what it started is perhaps still at it
    while is_active(&format!("{UNCONFIRMED}.service")).await? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Waits for a line; a terminal that is gone confirms nothing.
async fn enter() -> Result<()> {
    let mut octet = [0];
    match tokio::io::stdin()
        .read(&mut octet)
        .await
        .context("read the terminal")?
    {
        0 => std::future::pending().await,
        _ => Ok(()),
    }
}

async fn is_active(unit: &str) -> Result<bool> {
    let output = Command::new("systemctl")
        .args(["show", "--property=ActiveState", "--value", unit])
        .output()
        .await
        .context("run systemctl")?;
    let state = String::from_utf8_lossy(&output.stdout);
    Ok(matches!(state.trim(), "active" | "activating" | "reloading"))
}

async fn systemctl(words: &[&str]) -> Result<()> {
    let mut command = Command::new("systemctl");
    command.args(words);
    succeed(command, "systemctl").await
}

async fn succeed(mut command: Command, name: &str) -> Result<()> {
    let output = command.output().await.with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', "; ");
        bail!(
            "{name}: {said}; as root, or with polkit's consent, it would work; `systemctl status portmaster.target` says more"
        );
    }
    Ok(())
}
