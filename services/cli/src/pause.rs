//! `portmaster pause` and `portmaster resume`: root by the service's own socket, others on the desktop bus, where polkit is
//! asked about them.

mod agent;
mod desktop;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use proto::policy::v1::{PauseRequest, ResumeRequest, policy_client::PolicyClient};
use tonic::{Response, Status};

use crate::{
    args::{PauseArgs, ResumeArgs},
    clock,
    output::print,
    place::{PlaceArgs, Service, Trouble, trouble},
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
    let mut client = PolicyClient::new(args.place.channel(Service::Policy));
    let seconds = args.length.as_secs();
    let until = match client.pause(PauseRequest { seconds }).await {
        Err(status) if others_may(&status) => {
            let policy = desktop::policy(&args.place, "pausing the firewall").await?;
            let _agent = agent::start().await;
            clock::rfc3339_of_microseconds(desktop::answer(policy.pause(seconds).await)?)
        }
        reply => {
            let pause = args.place.answer(Service::Policy, reply)?.pause;
            clock::rfc3339(pause.and_then(|pause| pause.until).as_ref())
        }
    };
    let until = clock::second_of_day(&until);
    print(&format!(
        "paused until {until}: what would be refused passes (`portmaster resume` ends it)\n"
    ))
}

/// `portmaster resume`
pub(crate) async fn resume(args: ResumeArgs) -> Result<ExitCode> {
    let mut client = PolicyClient::new(args.place.channel(Service::Policy));
    let was_paused = match client.resume(ResumeRequest {}).await {
        Err(status) if others_may(&status) => {
            let policy = desktop::policy(&args.place, "ending a pause").await?;
            let _agent = agent::start().await;
            desktop::answer(policy.resume().await)?
        }
        reply => args.place.answer(Service::Policy, reply)?.was_paused,
    };
    print(if was_paused {
        "the pause is over\n"
    } else {
        "there was no pause\n"
    })
}

/// The end of the pause in force, as RFC 3339; `None` where there is none, and where the service does not say.
pub(crate) async fn in_force(place: &PlaceArgs) -> Option<String> {
    let mut client = PolicyClient::new(place.channel(Service::Policy));
    let reply: Result<Response<_>, Status> = client.get_pause(proto::policy::v1::GetPauseRequest {}).await;
    let until = reply.ok()?.into_inner().pause?.until;
    Some(clock::rfc3339(until.as_ref()))
}

/// The socket, or the service behind it, is not for us; polkit may see it otherwise. Root is refused for another reason.
fn others_may(status: &Status) -> bool {
    trouble(status) == Trouble::Forbidden && !rustix::process::geteuid().is_root()
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
