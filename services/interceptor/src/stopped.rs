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
    match tokio::time::timeout(PATIENCE, job(unit)).await {
        Ok(Ok(job)) => ending_of(job.as_deref()),
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

/// The type of its job, where it has one.
async fn job(unit: &str) -> zbus::Result<Option<String>> {
    let bus = zbus::connection::Builder::system().build().await?;
    let unit = ManagerProxy::new(&bus).await?.get_unit(unit).await?;
    let unit = UnitProxy::builder(&bus).path(unit).build().await?;
    let (number, job) = unit.job().await?;
    if number == 0 {
        return Ok(None);
    }
    let job = JobProxy::builder(&bus).path(job).build().await?;
    job.job_type().await.map(Some)
}

/// Words of `org.freedesktop.systemd1(5)`.
fn ending_of(job: Option<&str>) -> Ending {
    match job {
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
        assert_eq!(ending_of(Some("stop")), Ending::Stop);
        for comes_back in ["restart", "start", "try-restart", "reload-or-start"] {
            assert_eq!(ending_of(Some(comes_back)), Ending::Restart, "{comes_back}");
        }
        assert_eq!(ending_of(None), Ending::Crash);
    }
}
