//! Questions to the service manager (`org.freedesktop.systemd1(5)`).

use std::time::Duration;

use zbus::{OwnedObjectPath, proxy};

/// A bus that does not answer by then will not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

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
    fn active_state(&self) -> zbus::Result<String>;

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

/// A unit's `ActiveState`: `active`, `inactive`, `failed`, … An error where the bus or systemd does not answer in 3 s.
pub async fn active_state(unit: &str) -> zbus::Result<String> {
    in_time(async {
        let bus = zbus::connection::Builder::system().build().await?;
        let manager = ManagerProxy::new(&bus).await?;
        unit_proxy(&bus, &manager, unit).await?.active_state().await
    })
    .await
}

/// The state of the whole system (`running`, `stopping`, …), and the type of the unit's job where it has one (`stop`,
/// `restart`, …). Errors as [`active_state`].
pub async fn job(unit: &str) -> zbus::Result<(String, Option<String>)> {
    in_time(async {
        let bus = zbus::connection::Builder::system().build().await?;
        let manager = ManagerProxy::new(&bus).await?;
        let state = manager.system_state().await?;
        let (number, job) = unit_proxy(&bus, &manager, unit).await?.job().await?;
        if number == 0 {
            return Ok((state, None));
        }
        let job = JobProxy::builder(&bus).path(job).build().await?;
        Ok((state, Some(job.job_type().await?)))
    })
    .await
}

/// Has a unit restarted; polkit decides whether this process may (action `org.freedesktop.systemd1.manage-units`). Errors as
/// [`active_state`], and where it may not.
pub async fn restart(unit: &str) -> zbus::Result<()> {
    in_time(async {
        let bus = zbus::connection::Builder::system().build().await?;
        ManagerProxy::new(&bus)
            .await?
            .restart_unit(unit, "replace")
            .await
            .map(drop)
    })
    .await
}

async fn unit_proxy(
    bus: &zbus::Connection,
    manager: &ManagerProxy<'_>,
    unit: &str,
) -> zbus::Result<UnitProxy<'static>> {
    UnitProxy::builder(bus)
        .path(manager.get_unit(unit).await?)
        .build()
        .await
}

async fn in_time<T>(asked: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(zbus::Error::Failure("no answer".into())))
}
