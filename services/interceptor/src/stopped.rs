//! Why the service manager ended us: systemd knows the job, `ExecStopPost=` is not told of it
//! (`org.freedesktop.systemd1(5)`: `Unit.Job`, `Job.JobType`).

use daemon::systemd;

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

/// By the job that systemd has for `unit` now. Without an answer it is a restart: rules that stay too long can be removed,
/// packets that passed undecided cannot be taken back.
pub async fn ending(unit: &str) -> Ending {
    match systemd::job(unit).await {
        Ok((state, job)) => ending_of(&state, job.as_deref()),
        Err(error) => unknown(&error.to_string()),
    }
}

fn unknown(error: &str) -> Ending {
    tracing::warn!(
        error,
        "systemd does not tell why the service ended; the rules stay: remove them with --cleanup"
    );
    Ending::Restart
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
