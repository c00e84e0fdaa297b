//! A private D-Bus with the rules of a system bus and the policy that we ship.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::unit::{self, Readiness, Spec};

const CONFIG: &str = include_str!("../../../../dbus/private-bus.conf");
const POLICY: &str = include_str!("../../../../dbus/org.portmaster.conf");

/// What `DBUS_SYSTEM_BUS_ADDRESS` is for a mesh below `root`.
pub(crate) fn address(root: &Path) -> String {
    format!("unix:path={}", socket(root).display())
}

/// The same, where a mesh below `root` made itself a bus.
pub(crate) fn existing(root: &Path) -> Option<String> {
    socket(root).exists().then(|| address(root))
}

/// Writes the bus's files below `root`, and says how to run it.
pub(super) fn unit(root: &Path) -> Result<Spec> {
    let folder = root.join("run/dbus");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let (config, policy) = (folder.join("bus.conf"), folder.join("org.portmaster.conf"));
    let text = CONFIG.replace("@SOCKET@", &socket(root).to_string_lossy());
    let text = text.replace("@POLICY@", &policy.to_string_lossy());
    fs::write(&policy, POLICY).with_context(|| format!("write {}", policy.display()))?;
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let command = move || {
        let mut command = unit::dies_with_us(Path::new("dbus-daemon"));
        command
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .arg(format!("--config-file={}", config.display()));
        command
    };
    Ok(Spec {
        name: "dbus-daemon",
        readiness: Readiness::Exists(socket(root)),
        command: Box::new(command),
    })
}

fn socket(root: &Path) -> PathBuf {
    root.join("run/dbus/bus.sock")
}
