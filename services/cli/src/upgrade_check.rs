//! `portmaster upgrade-check`: does what runs come from the file that is installed now?

use std::{fs, os::unix::fs::MetadataExt as _, process::ExitCode};

use anyhow::Result;
use proto::common::v1::ServiceState;
use serde::Serialize;

use crate::{
    args::UpgradeCheckArgs,
    output::print,
    printable::{json_line, printable},
    status,
};

/// What is to be said of one service.
#[derive(Debug, Serialize)]
struct Finding {
    service: String,
    unit: String,
    state: State,
    /// Of the running binary.
    version: String,
    /// Where it came from, or why that is not known.
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// What runs is what is installed.
    Current,
    /// Another file is installed by now.
    Older,
    /// The file is gone: what runs is the last of it.
    Removed,
    /// Nobody answers, or the service is too old to say what it executes.
    Unknown,
}

pub(crate) async fn run(args: UpgradeCheckArgs) -> Result<ExitCode> {
    let asked = args.place.services().into_iter().map(|service| {
        let place = &args.place;
        async move {
            match status::state(place, service).await {
                Ok(state) => finding(&state),
                Err(why) => Finding {
                    service: service.name().to_owned(),
                    unit: unit(service.name()),
                    state: State::Unknown,
                    version: String::new(),
                    detail: why,
                },
            }
        }
    });
    let findings = futures_util::future::join_all(asked).await;
    let text = if args.json {
        json_line(&findings)?
    } else {
        text(&findings)
    };
    print(&text)?;
    let current = findings.iter().all(|finding| finding.state == State::Current);
    Ok(if current {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn unit(service: &str) -> String {
    format!("portmaster-{service}.service")
}

fn finding(state: &ServiceState) -> Finding {
    let path = state.executable.as_str();
    let installed = fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let (found, detail) = match installed {
        _ if path.is_empty() => (
            State::Unknown,
            "it does not say what it executes: an older version".to_owned(),
        ),
        Ok(file) if file == (state.executable_device, state.executable_inode) => {
            (State::Current, path.to_owned())
        }
        Ok(_) => (State::Older, format!("{path} was replaced since it was started")),
        Err(error) => (State::Removed, format!("{path}: {error}")),
    };
    Finding {
        service: state.service.clone(),
        unit: unit(&state.service),
        state: found,
        version: state.version.clone(),
        detail,
    }
}

fn text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let word = match finding.state {
            State::Current => "current",
            State::Older => "older",
            State::Removed => "removed",
            State::Unknown => "unknown",
        };
        format!(
            "{:<17} {:<8} {:<8} {}\n",
            printable(&finding.service),
            printable(&finding.version),
            word,
            printable(&finding.detail)
        )
    };
    let mut text: String = findings.iter().map(line).collect();
    let old: Vec<_> = findings
        .iter()
        .filter(|finding| finding.state == State::Older)
        .map(|finding| finding.unit.as_str())
        .collect();
    if !old.is_empty() {
        text += &format!("no connection is lost by: systemctl restart {}\n", old.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(path: &str, device: u64, inode: u64) -> ServiceState {
        ServiceState {
            service: "policy".to_owned(),
            executable: path.to_owned(),
            executable_device: device,
            executable_inode: inode,
            ..ServiceState::default()
        }
    }

    #[test]
    fn a_replaced_file_is_told_from_the_one_that_runs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let metadata = fs::metadata(&path).unwrap();
        let (device, inode) = (metadata.dev(), metadata.ino());
        assert_eq!(finding(&running(&path, device, inode)).state, State::Current);
        let older = finding(&running(&path, device, inode + 1));
        assert_eq!(older.state, State::Older);
        assert!(text(&[older]).ends_with("systemctl restart portmaster-policy.service\n"));
        drop(file);
        assert_eq!(finding(&running(&path, device, inode)).state, State::Removed);
        assert_eq!(finding(&running("", 0, 0)).state, State::Unknown);
    }
}
