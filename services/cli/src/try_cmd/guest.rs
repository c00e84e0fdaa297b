//! `portmaster try -- COMMAND`: somebody's own program behind the firewall.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{
    TryArgs,
    log::Log,
    shell::run as run_to_end,
    tour,
    world::{Outside, World},
};

/// Runs the command, and returns its exit status (128 + n where signal n ended it).
pub(super) async fn run(name: &str, args: &TryArgs) -> Result<ExitCode> {
    let user = match &args.user {
        Some(user) => Some(User::find(user).await?),
        None => None,
    };
    let outside = match (args.uplink, args.gate17) {
        (true, _) => Outside::Uplink,
        (false, true) => Outside::Network,
        (false, false) => Outside::Playground,
    };
    let config: Option<fn(&Path) -> Result<()>> = args.gate17.then_some(tour::tunnel_everything);
    let mut world = match &args.config {
        Some(config) => World::make_with(name, &existing(config)?, None, outside).await?,
        None => World::make(name, config, outside).await?,
    };
    let log = match &args.events {
        Some(file) => Some(Log::start(world.channel("interceptor")?, file).await?),
        None => None,
    };
    let status = run_command(&world, &args.command, user.as_ref()).await;
    if let Some(log) = &log {
        log.settle().await;
    }
    world.stop().await;
    let logged = match log {
        Some(log) => log.close().await,
        None => Ok(()),
    };
    world.sweep();
    logged?;
    Ok(ExitCode::from(code(status?)))
}

async fn run_command(
    world: &World,
    command: &[std::ffi::OsString],
    user: Option<&User>,
) -> Result<ExitStatus> {
    let (program, arguments) = command.split_first().context("no command is given")?;
    let mut command = match user {
        Some(user) => user.command(world, program)?,
        None => world.command(program)?,
    };
    let child = command
        .args(arguments)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    accompany(child).await
}

/// Ctrl-C goes to the command as well as to us, so we only wait; what is sent to us alone is handed on.
async fn accompany(mut child: Child) -> Result<ExitStatus> {
    let listen = |kind| signal(kind).context("listen to signals");
    let (mut interrupt, mut quit) = (listen(SignalKind::interrupt())?, listen(SignalKind::quit())?);
    let (mut terminate, mut hangup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    loop {
        let hand_on = tokio::select! {
            status = child.wait() => return status.context("wait for the command"),
            _ = interrupt.recv() => continue,
            _ = quit.recv() => continue,
            _ = terminate.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
        };
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _gone = kill_process(pid, hand_on);
        }
        if let Ok(status) = tokio::time::timeout(Duration::from_secs(10), child.wait()).await {
            return status.context("wait for the command");
        }
        child.start_kill().context("kill the command")?;
    }
}

/// As shells do it.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn existing(config: &Path) -> Result<PathBuf> {
    fs::canonicalize(config).with_context(|| format!("find the configuration folder {}", config.display()))
}

/// A line of passwd(5).
#[derive(Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

impl User {
    /// By name or number.
    async fn find(user: &str) -> Result<Self> {
        let found = run_to_end(Command::new("getent").args(["passwd", "--", user])).await;
        let line = found.with_context(|| format!("no user is called {user}"))?;
        Self::parse(line.trim()).with_context(|| format!("read the account of {user}"))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let _password = fields.next()?;
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let _comment = fields.next()?;
        Some(Self {
            name,
            uid,
            gid,
            home: fields.next()?.to_owned(),
            shell: fields.next()?.to_owned(),
        })
    }

    /// A command behind the firewall with this user's rights, groups and environment.
    fn command(&self, world: &World, program: &OsStr) -> Result<Command> {
        let mut command = world.command("setpriv")?;
        command
            .arg(format!("--reuid={}", self.uid))
            .arg(format!("--regid={}", self.gid));
        command
            .args(["--init-groups", "--pdeathsig", "KILL", "--"])
            .arg(program);
        command
            .env("USER", &self.name)
            .env("LOGNAME", &self.name)
            .env("HOME", &self.home)
            .env("SHELL", &self.shell);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_128_and_its_number() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
    }

    #[test]
    fn an_account_is_read_from_a_line_of_passwd() {
        let user = User::parse("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin").unwrap();
        assert_eq!(
            (user.uid, user.gid, user.home.as_str()),
            (65534, 65534, "/nonexistent")
        );
        assert_eq!(User::parse("nobody:x:many:65534:nobody:/:/bin/sh"), None);
        assert_eq!(User::parse("nobody"), None);
    }
}
