//! `portmaster pause` and `portmaster resume`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use proto::policy::v1::{PauseRequest, ResumeRequest, policy_client::PolicyClient};

use crate::{
    args::{PauseArgs, ResumeArgs},
    clock,
    output::print,
    place::Service,
};

/// A day: the same bound as the service's.
const LONGEST: Duration = verdict::policy::model::Pause::LONGEST;

/// `90s`, `10m`, `1h30m`: numbers, each with its unit, from a second to a day.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of a pause; write for example 90s, 10m or 1h30m");
    let (mut total, mut number) = (0_u64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = count
            .checked_mul(unit)
            .and_then(|more| total.checked_add(more))
            .ok_or_else(wrong)?;
        number.clear();
    }
    if text.is_empty() || !number.is_empty() {
        return Err(wrong());
    }
    let length = Duration::from_secs(total);
    if total == 0 || length > LONGEST {
        return Err(
            "a pause takes from 1 second to 24 hours; for longer, change the rules or stop portmaster"
                .to_owned(),
        );
    }
    Ok(length)
}

/// `portmaster pause 10m`
pub(crate) async fn pause(args: PauseArgs) -> Result<ExitCode> {
    need_root("pausing the firewall")?;
    let mut client = PolicyClient::new(args.place.channel(Service::Policy));
    let seconds = args.length.as_secs();
    let reply = client.pause(PauseRequest { seconds }).await;
    let reply = args.place.answer(Service::Policy, reply)?;
    let until = reply.pause.and_then(|pause| pause.until);
    let until = clock::time_of_day(&clock::rfc3339(until.as_ref()));
    print(&format!(
        "paused until {until}: what would be refused passes (`portmaster resume` ends it)\n"
    ))
}

/// `portmaster resume`
pub(crate) async fn resume(args: ResumeArgs) -> Result<ExitCode> {
    need_root("ending a pause")?;
    let mut client = PolicyClient::new(args.place.channel(Service::Policy));
    let reply = client.resume(ResumeRequest {}).await;
    let was_paused = args.place.answer(Service::Policy, reply)?.was_paused;
    print(if was_paused {
        "the pause is over\n"
    } else {
        "there was no pause\n"
    })
}

fn need_root(what: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("{what} needs root: run it with sudo");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units_and_bounds() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("24h", 86_400)] {
            assert_eq!(length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "0s",
            "25h",
            "24h1s",
            "-1m",
            "1.5h",
            "10 m",
            "99999999999999999999h",
            "99999999999999999h",
        ] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
