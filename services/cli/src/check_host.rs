//! `portmaster check-host`: what on this host is in our way, whose it is, and what helps.

mod facts;
mod finding;
mod gather;
mod iptables;
mod judge;
mod nft;
mod owner;
mod ports;
mod rules;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{
    output::print,
    paint::{Paint, Tone},
    printable::{json_line, printable},
};
use finding::{Finding, Level};

const CONFIG: &str = "/etc/portmaster";
/// Something is in the way.
const CLASH: u8 = 2;

/// `portmaster check-host`
#[derive(Debug, Args)]
pub struct CheckHostArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Folder of interceptor.toml
    #[arg(long, value_name = "DIR", default_value = CONFIG)]
    pub config: PathBuf,
}

#[derive(Serialize)]
struct Whole<'a> {
    /// The worst level; absent where there is nothing to say.
    worst: Option<Level>,
    findings: &'a [Finding],
}

pub(crate) async fn run(args: CheckHostArgs, paint: Paint) -> Result<ExitCode> {
    let findings = judge::judge(&gather::gather(&args.config).await);
    let worst = findings.iter().map(|finding| finding.level).min();
    let text = if args.json {
        json_line(&Whole {
            worst,
            findings: &findings,
        })?
    } else {
        text(&findings, paint)
    };
    print(&text)?;
    Ok(match worst {
        Some(Level::Clash) => ExitCode::from(CLASH),
        Some(Level::Unknown) => ExitCode::FAILURE,
        Some(Level::Later | Level::Beside) | None => ExitCode::SUCCESS,
    })
}

/// For `portmaster start`: what is in the way, on standard error. It starts all the same: some of it works until it is put
/// right, and the services say themselves what they cannot do without.
pub(crate) async fn warn() {
    let findings = judge::judge(&gather::gather(Path::new(CONFIG)).await);
    for finding in findings.iter().filter(|finding| finding.level == Level::Clash) {
        eprintln!(
            "portmaster: in the way: {}: {}",
            printable(&finding.what),
            printable(&finding.remedy)
        );
    }
}

fn text(findings: &[Finding], paint: Paint) -> String {
    let mut text: String = findings.iter().map(|finding| block(finding, paint)).collect();
    text += match findings.iter().map(|finding| finding.level).min() {
        Some(Level::Clash) => "something is in the way of Portmaster\n",
        Some(Level::Unknown) => "not everything could be looked at\n",
        Some(Level::Later | Level::Beside) | None => "nothing is in the way of Portmaster\n",
    };
    text
}

fn block(finding: &Finding, paint: Paint) -> String {
    let tone = match finding.level {
        Level::Clash => Tone::Bad,
        Level::Unknown | Level::Later => Tone::Warning,
        Level::Beside => Tone::Good,
    };
    format!(
        "{} {}\n        {}\n",
        paint.text(tone, finding.level.text(), 7),
        printable(&finding.what),
        printable(&finding.remedy)
    )
}

#[cfg(test)]
mod tests;
