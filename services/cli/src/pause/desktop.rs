//! The policy service on the desktop bus.
//!
//! Invariant: a firewall that was named by its folder is never taken for the one of this host.

use anyhow::{Context, Result, anyhow, bail};
use dbus::Policy1Proxy;
use zbus::{DBusError as _, connection::Builder, fdo, proxy::CacheProperties};

use crate::{place::PlaceArgs, up};

/// The policy service of this place; `what` needs root where there is no bus to ask on.
pub(super) async fn policy(place: &PlaceArgs, what: &str) -> Result<Policy1Proxy<'static>> {
    let builder = match bus(place) {
        Some(Bus::System) => Builder::system(),
        Some(Bus::At(address)) => Builder::address(address.as_str()),
        None => bail!(
            "{what} needs root: run it with sudo (or set DBUS_SYSTEM_BUS_ADDRESS to the bus of this firewall)"
        ),
    };
    let why =
        || format!("{what} needs root, or a desktop bus on which polkit can be asked; run it with sudo");
    let connection = builder.build().await.with_context(why)?;
    Policy1Proxy::builder(&connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .with_context(why)
}

/// The answer, or what the service and the bus say against it, in words for people.
pub(super) fn answer<T>(reply: zbus::Result<T>) -> Result<T> {
    let error = match reply {
        Ok(answer) => return Ok(answer),
        Err(zbus::Error::FDO(error)) => *error,
        Err(error) => return Err(anyhow!(error).context("ask policy on the desktop bus")),
    };
    match error {
        fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => {
            bail!("policy is not on the desktop bus: is it running? `portmaster status` tells")
        }
        error => {
            let why = error.description().unwrap_or_default();
            bail!("policy on the desktop bus refused: {why}")
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Bus {
    /// As `DBUS_SYSTEM_BUS_ADDRESS` says, or the host's own.
    System,
    At(String),
}

fn bus(place: &PlaceArgs) -> Option<Bus> {
    let set = std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
    bus_of(place, set)
}

/// That of `portmaster up` stands below its root.
fn bus_of(place: &PlaceArgs, address_is_set: bool) -> Option<Bus> {
    match (&place.root, &place.runtime_dir) {
        _ if address_is_set => Some(Bus::System),
        (None, None) => Some(Bus::System),
        (Some(root), _) => up::bus::existing(root).map(Bus::At),
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn place(root: Option<&Path>, runtime: Option<&str>) -> PlaceArgs {
        PlaceArgs {
            root: root.map(Path::to_owned),
            runtime_dir: runtime.map(Into::into),
        }
    }

    #[test]
    fn another_firewall_is_never_taken_for_the_host_s() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(bus_of(&place(None, None), false), Some(Bus::System));
        assert_eq!(bus_of(&place(Some(root.path()), None), false), None);
        assert_eq!(bus_of(&place(None, Some("/tmp/y")), false), None);
        assert_eq!(bus_of(&place(Some(root.path()), None), true), Some(Bus::System));
        let socket = root.path().join("run/dbus/bus.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        fs::write(&socket, "").unwrap();
        let address = format!("unix:path={}", socket.display());
        assert_eq!(
            bus_of(&place(Some(root.path()), None), false),
            Some(Bus::At(address))
        );
    }

    #[test]
    fn what_the_service_says_is_what_people_read() {
        let error = |reply: zbus::Result<()>| format!("{:#}", answer(reply).unwrap_err());
        let denied = fdo::Error::AccessDenied("nobody authenticated".to_owned());
        assert_eq!(
            error(Err(denied.into())),
            "policy on the desktop bus refused: nobody authenticated"
        );
        let gone = fdo::Error::ServiceUnknown("no".to_owned());
        assert!(error(Err(gone.into())).contains("is it running?"));
        assert!(error(Err(zbus::Error::Unsupported)).contains("ask policy on the desktop bus"));
    }
}
