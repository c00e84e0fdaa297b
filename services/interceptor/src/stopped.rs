//! Why the service manager ended us: systemd knows the job, `ExecStopPost=` is not told of it
//! (`org.freedesktop.systemd1(5)`: `Unit.Job`, `Job.JobType`).

use std::time::Duration;

use zbus::{OwnedObjectPath, proxy};

/// How the service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The owner stopped it, or the host shuts down.
    Stop,
    /// It comes back at once.
    Restart,
    /// Nobody asked for it.
    Crash,
}

/// A bus that does not answer by then will not.
const PATIENCE: Duration = Duration::from_secs(3);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    /// `running`, `degraded`, `stopping`, …
    #[zbus(property)]
    fn system_state(&self) -> zbus::Result<String>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property)]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Job",
    default_service = "org.freedesktop.systemd1"
)]
trait Job {
    #[zbus(property)]
    fn job_type(&self) -> zbus::Result<String>;
}

/// By the job that systemd has for `unit` now. Without an answer it is a restart: rules that stay too long can be removed,
/// packets that passed undecided cannot be taken back.
pub async fn ending(unit: &str) -> Ending {
    match tokio::time::timeout(PATIENCE, ask(unit)).await {
        Ok(Ok((state, job))) => ending_of(&state, job.as_deref()),
        Ok(Err(error)) => unknown(&error.to_string()),
        Err(_) => unknown("no answer"),
    }
}

fn unknown(error: &str) -> Ending {
    tracing::warn!(
        error,
        "systemd does not tell why the service ended; the rules stay: remove them with --cleanup"
    );
    Ending::Restart
}

/// The state of the whole system, and the type of the unit's job where it has one.
async fn ask(unit: &str) -> zbus::Result<(String, Option<String>)> {
    let bus = zbus::connection::Builder::system().build().await?;
    let manager = ManagerProxy::new(&bus).await?;
    let state = manager.system_state().await?;
    let unit = UnitProxy::builder(&bus)
        .path(manager.get_unit(unit).await?)
        .build()
        .await?;
    let (number, job) = unit.job().await?;
    if number == 0 {
        return Ok((state, None));
    }
    let job = JobProxy::builder(&bus).path(job).build().await?;
    Ok((state, Some(job.job_type().await?)))
}

/// Words of `org.freedesktop.systemd1(5)`.
fn ending_of(system: &str, job: Option<&str>) -> Ending {
    match job {
        // at shutdown the rules stay until the kernel ends: the network may outlive us
        Some(_) if system == "stopping" => Ending::Restart,
        Some("stop") => Ending::Stop,
        Some(_) => Ending::Restart,
        // a clean end that nobody asked for, as of a signal sent by hand
        None => Ending::Crash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_that_stops_is_a_stop() {
        assert_eq!(ending_of("running", Some("stop")), Ending::Stop);
        for comes_back in ["restart", "start", "try-restart", "reload-or-start"] {
            assert_eq!(
                ending_of("degraded", Some(comes_back)),
                Ending::Restart,
                "{comes_back}"
            );
        }
        assert_eq!(ending_of("running", None), Ending::Crash);
    }

    #[test]
    fn at_shutdown_the_rules_stay() {
        assert_eq!(ending_of("stopping", Some("stop")), Ending::Restart);
    }
}
