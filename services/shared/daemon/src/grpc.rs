//! gRPC over Unix sockets: bind, serve, call, follow.
//!
//! Source of what a caller is: `SO_PEERCRED` (`unix(7)`), which the kernel fills in.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};
use proto::common::v1::Health;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status as Refusal,
    service::{InterceptorLayer, Routes},
    transport::{Channel, Endpoint, Server, server::UdsConnectInfo},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{About, Paths, ready, status::Status, users};

/// Members may call services and receive events.
const GROUP: &str = "portmaster";
/// The name under which the service manager passes the socket.
const PASSED: &str = "grpc";
const CALL_DEADLINE: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Who may call, beside root, this service's own user and the users of the mesh (`portmaster-…`).
#[derive(Clone, Copy, Debug)]
pub struct Callers {
    /// Members of group `portmaster`.
    pub group: bool,
}

impl Default for Callers {
    fn default() -> Self {
        Self { group: true }
    }
}

impl Callers {
    fn may_call(self, uid: u32) -> bool {
        uid == 0
            || uid == geteuid().as_raw()
            || users::name(uid).is_some_and(|name| name.starts_with("portmaster-"))
            || (self.group && users::is_member(uid, GROUP))
    }

    fn check(self, request: Request<()>) -> Result<Request<()>, Refusal> {
        let peer = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred);
        match peer.map(|peer| peer.uid()) {
            Some(uid) if self.may_call(uid) => Ok(request),
            Some(uid) => Err(Refusal::permission_denied(format!(
                "user {uid} may not call this service: join group {GROUP}, or be root"
            ))),
            None => Err(Refusal::permission_denied("the caller's user is not known")),
        }
    }
}

/// The service's socket: passed by the service manager, or bound here. A socket file that nobody listens on is replaced;
/// one that somebody does is not.
pub fn bind(paths: &Paths, about: &About) -> anyhow::Result<UnixListener> {
    let passed = ready::passed_sockets()
        .into_iter()
        .find(|(name, _)| name == PASSED);
    if let Some((_, fd)) = passed {
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        return Ok(UnixListener::from_std(listener)?);
    }
    let path = paths.socket(about.name);
    let what = || format!("listen on {}", path.display());
    fs::create_dir_all(&paths.runtime).with_context(what)?;
    remove_stale(&path).with_context(what)?;
    let listener = UnixListener::bind(&path).with_context(what)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).with_context(what)?;
    if let Some(group) = users::gid(GROUP) {
        // who is not root may give it only to groups of its own: then members of the group must be told otherwise
        if let Err(error) = std::os::unix::fs::chown(&path, None, Some(group)) {
            tracing::warn!(%error, socket = %path.display(), "socket cannot be given to group {GROUP}");
        }
    }
    Ok(listener)
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    anyhow::ensure!(
        metadata.file_type().is_socket(),
        "there is something else than a socket; remove it"
    );
    if let Ok(stream) = std::os::unix::net::UnixStream::connect(path) {
        let holder =
            rustix::net::sockopt::socket_peercred(&stream).map(|peer| peer.pid.as_raw_nonzero().get());
        let holder = holder.map_or_else(|_| "another process".to_owned(), |pid| format!("process {pid}"));
        anyhow::bail!("already running: {holder} holds it; stop that one first");
    }
    Ok(fs::remove_file(path)?)
}

/// Serves `routes`, health and reflection until `shutdown`.
pub async fn serve(
    listener: UnixListener,
    routes: Routes,
    callers: Callers,
    status: Status,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1()
        .context("set up reflection")?;
    let server = Server::builder()
        .timeout(CALL_DEADLINE)
        .layer(InterceptorLayer::new(move |request| callers.check(request)))
        .add_routes(routes.add_service(health).add_service(reflection))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::select! {
        served = server => served.context("serve grpc"),
        () = report_health(reporter, status) => Ok(()),
        // streams have no end of their own: they are cut
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn report_health(reporter: HealthReporter, status: Status) {
    let mut changes = status.changed();
    loop {
        let serving = match status.health() {
            Health::Ok | Health::Degraded => ServingStatus::Serving,
            Health::Starting | Health::Failed | Health::Unspecified => ServingStatus::NotServing,
        };
        reporter.set_service_status("", serving).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// To a service. Connects when first used, and again whenever it must.
pub fn channel(socket: &Path) -> Channel {
    let path: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    // the address is never looked at
    Endpoint::from_static("http://portmaster.invalid")
        .connect_timeout(Duration::from_secs(2))
        .connect_with_connector_lazy(connector)
}

/// Follows a stream until `shutdown`, over any number of breaks. `connect` opens it, `on_item` gets what it says. A break is
/// logged once, however long it lasts.
pub async fn follow<T, S, F>(
    what: &str,
    shutdown: CancellationToken,
    mut connect: impl FnMut() -> F,
    mut on_item: impl FnMut(T),
) where
    F: Future<Output = Result<S, Refusal>>,
    S: Stream<Item = Result<T, Refusal>> + Unpin,
{
    let mut pause = SHORTEST_PAUSE;
    let mut lost = false;
    let follow = async {
        loop {
            let ended = match connect().await {
                Ok(mut items) => {
                    if std::mem::take(&mut lost) {
                        tracing::info!("{what} is there again");
                    }
                    pause = SHORTEST_PAUSE;
                    drain(&mut items, &mut on_item).await
                }
                Err(refusal) => refusal,
            };
            if !std::mem::replace(&mut lost, true) {
                tracing::warn!(reason = ended.message(), "{what} cannot be reached, trying on");
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    shutdown.run_until_cancelled(follow).await;
}

async fn drain<T>(
    items: &mut (impl Stream<Item = Result<T, Refusal>> + Unpin),
    on_item: &mut impl FnMut(T),
) -> Refusal {
    loop {
        match items.next().await {
            Some(Ok(item)) => on_item(item),
            Some(Err(refusal)) => return refusal,
            None => return Refusal::unavailable("the stream ended"),
        }
    }
}

/// Between half of it and all of it, so that followers of one service do not come back in step.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0);
    let half = pause / 2;
    let part = u32::try_from(random % 1000).unwrap_or(0);
    half + half * part / 1000
}
