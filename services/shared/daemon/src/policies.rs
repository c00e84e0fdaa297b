//! Follows the policy service. A snapshot is compiled, kept on disk and put in force as a whole; one that does not compile is
//! refused as a whole, loudly, and the last good one stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use prost::Message as _;
use proto::policy::v1::{GetRequest, Snapshot as WireSnapshot, WatchRequest, policy_client::PolicyClient};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use verdict::policy::{CompiledPolicy, model::Snapshot};

use crate::{grpc, status::Status};

const UNREACHABLE: &str = "policy-unreachable";
const REFUSED: &str = "policy-refused";
const NOT_KEPT: &str = "policy-not-kept";

/// Longest wait of [`first`].
const FIRST: std::time::Duration = std::time::Duration::from_secs(3);

/// The last good snapshot, on disk.
#[derive(Clone, Debug)]
pub struct Kept {
    path: PathBuf,
}

impl Kept {
    /// In the service's state directory.
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join("policy.bin"),
        }
    }

    /// The kept snapshot, or the shipped defaults where there is none that can be used.
    pub fn load(&self, status: &Status) -> anyhow::Result<CompiledPolicy> {
        match self.read() {
            Ok(Some(policy)) => return Ok(policy),
            Ok(None) => {}
            Err(error) => status.raise(REFUSED, format!("starting from the shipped defaults: {error:#}")),
        }
        compile(verdict::policy::shipped()?)
    }

    /// Whether an earlier process kept one.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    fn read(&self) -> anyhow::Result<Option<CompiledPolicy>> {
        let what = || format!("kept policy {}", self.path.display());
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(what)?,
        };
        let snapshot = WireSnapshot::decode(&*bytes).with_context(what)?;
        compile_wire(snapshot).with_context(what).map(Some)
    }

    fn write(&self, snapshot: &WireSnapshot) -> io::Result<()> {
        crate::files::replace(&self.path, &snapshot.encode_to_vec())
    }
}

/// Where nothing was kept, the owner's word is waited for a moment before anything is decided: by nothing but the shipped
/// defaults, the first connections of a new host would get what its owner never said. A policy service that is not there
/// costs no time.
pub async fn first(
    channel: Channel,
    kept: &Kept,
    status: &Status,
    in_force: &watch::Sender<Arc<CompiledPolicy>>,
) {
    if kept.exists() {
        return;
    }
    let mut client = PolicyClient::new(channel).max_decoding_message_size(proto::MAX_SNAPSHOT);
    if let Ok(Ok(snapshot)) = tokio::time::timeout(FIRST, client.get(GetRequest {})).await {
        adopt(&snapshot.into_inner(), kept, status, in_force);
    }
}

/// Puts every new snapshot in force, until `shutdown`.
pub async fn follow(
    channel: Channel,
    kept: Kept,
    status: Status,
    in_force: watch::Sender<Arc<CompiledPolicy>>,
    shutdown: CancellationToken,
) {
    status.set_policy_version(in_force.borrow().version());
    let connect = || {
        let (channel, status) = (channel.clone(), status.clone());
        async move {
            let watched = PolicyClient::new(channel)
                .max_decoding_message_size(proto::MAX_SNAPSHOT)
                .watch(WatchRequest { have_version: 0 })
                .await;
            match watched {
                Ok(snapshots) => {
                    status.clear(UNREACHABLE);
                    Ok(snapshots.into_inner())
                }
                Err(refused) => {
                    status.raise(
                        UNREACHABLE,
                        "policy cannot be reached: the last snapshot stays in force",
                    );
                    Err(refused)
                }
            }
        }
    };
    grpc::follow("policy", shutdown, connect, |snapshot: WireSnapshot| {
        adopt(&snapshot, &kept, &status, &in_force);
    })
    .await;
}

fn adopt(
    snapshot: &WireSnapshot,
    kept: &Kept,
    status: &Status,
    in_force: &watch::Sender<Arc<CompiledPolicy>>,
) {
    let version = snapshot.version;
    if version == in_force.borrow().version() && version != 0 {
        return;
    }
    let compiled = match compile_wire(snapshot.clone()) {
        Ok(compiled) => compiled,
        Err(error) => {
            return status.raise(
                REFUSED,
                format!("policy version {version} is not in force: {error:#}"),
            );
        }
    };
    status.clear(REFUSED);
    match kept.write(snapshot) {
        Ok(()) => status.clear(NOT_KEPT),
        Err(error) => status.raise(
            NOT_KEPT,
            format!(
                "a restart would begin with an older policy: cannot write {}: {error}",
                kept.path.display()
            ),
        ),
    }
    in_force.send_replace(Arc::new(compiled));
    status.set_policy_version(version);
    tracing::info!(version, "policy in force");
}

fn compile_wire(snapshot: WireSnapshot) -> anyhow::Result<CompiledPolicy> {
    compile(snapshot.try_into()?)
}

fn compile(snapshot: Snapshot) -> anyhow::Result<CompiledPolicy> {
    Ok(CompiledPolicy::new(snapshot)?)
}
