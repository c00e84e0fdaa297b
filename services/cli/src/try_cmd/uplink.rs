//! The outside world, through pasta: sockets of an ordinary process carry the traffic, and no rule of the machine changes.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::shell::{bound, ip, need, run};

/// pasta answers here for the machine's own name server.
pub(super) const NAMESERVERS: &str = "nameserver 10.17.17.53\noptions timeout:2 attempts:2\n";

/// The process that carries the traffic; it ends with this value.
pub(super) struct Uplink {
    _pasta: Child,
}

impl Uplink {
    /// Connects a namespace, and returns when it has a route.
    pub(super) async fn open(namespace: &str) -> Result<Self> {
        let pasta = need("pasta", "passt")?;
        let mut command: Command = bound(pasta);
        command.args([
            "--foreground",
            "--quiet",
            "--config-net",
            "--netns-only",
            "--runas",
            "0:0",
        ]);
        command.args(["--dns-forward", "10.17.17.53", "--no-map-gw"]);
        // Nothing that listens on the machine's loopback appears inside, and the other way round.
        command.args([
            "--tcp-ports",
            "none",
            "--udp-ports",
            "none",
            "--tcp-ns",
            "none",
            "--udp-ns",
            "none",
        ]);
        command.arg("--netns").arg(format!("/run/netns/{namespace}"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        let mut pasta = command.spawn().context("start pasta")?;
        let connected = async {
            while run(&mut ip(&format!("-n {namespace} route show default")))
                .await?
                .trim()
                .is_empty()
            {
                if let Some(status) = pasta.try_wait().context("watch pasta")? {
                    bail!("pasta ended with {status}: the machine itself may have no route to the outside");
                }
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        timeout(Duration::from_secs(15), connected)
            .await
            .context("pasta makes no route")??;
        Ok(Self { _pasta: pasta })
    }
}
