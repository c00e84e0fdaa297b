//! gRPC over Unix sockets: bind, serve, call, follow.

mod absent;
mod callers;
mod follow;
mod kept;
mod state;

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use proto::common::v1::Health;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{InterceptorLayer, Routes},
    transport::{Channel, Endpoint, Server},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{About, Paths, ready, status::Status, systemd, telemetry, users};
pub use absent::is_absent;
use callers::Door;
pub use callers::{Callers, is_of_the_mesh, mesh_alone, root_or_gateway};
pub use follow::follow;
pub use kept::Lost;
pub use state::state;

/// Members may call services and receive events.
const GROUP: &str = "portmaster";
/// The name under which the service manager passes the socket.
const PASSED: &str = "grpc";
/// At the end, for calls that were begun to be answered: they are local, and short.
const GRACE: Duration = Duration::from_millis(50);
/// For a call to be answered; streams may then go on for ever.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
const SETTLES_WITHIN: Duration = Duration::from_millis(500);
/// A service that is stopped, or hangs, is noticed after the sum of both.
const ASKED_EVERY: Duration = Duration::from_secs(10);
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The service's socket: passed by the service manager, or bound here. A socket file that nobody listens on is replaced;
/// one that somebody does is not.
pub fn bind(paths: &Paths, about: &About) -> anyhow::Result<UnixListener> {
    if let Some(fd) = ready::take_passed(PASSED).into_iter().next() {
        ready::was_passed();
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        return Ok(UnixListener::from_std(listener)?);
    }
    let path = paths.socket(about.name);
    let what = || attempt(&path, about);
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

/// What was tried. Under systemd nobody but root makes sockets, and they come from a unit.
fn attempt(path: &Path, about: &About) -> String {
    use rustix::fs::{Access, access};
    let ours = path
        .parent()
        .is_some_and(|folder| access(folder, Access::WRITE_OK).is_ok());
    let remedy = if ours {
        String::new()
    } else {
        format!(
            ", since systemd passed no socket (systemctl start portmaster-{}.socket)",
            about.name
        )
    };
    format!("listen on {}{remedy}", path.display())
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

/// Serves `routes`, health and reflection until `shutdown`. Fails with [`Lost`] where the service manager closed the socket that
/// it passed: nobody could call any more, and a new start brings another.
pub async fn serve(
    listener: UnixListener,
    routes: Routes,
    callers: Callers,
    status: Status,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let door = Arc::new(Door::new(callers));
    let kept = kept::Kept::of(&listener, status.about());
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1()
        .context("set up reflection")?;
    let server = Server::builder()
        .timeout(CALL_DEADLINE)
        .trace_fn(telemetry::span_of_call)
        .layer(InterceptorLayer::new(move |request| door.check(request)))
        .add_routes(routes.add_service(health).add_service(reflection))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            shutdown.clone().cancelled_owned(),
        );
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => served.context("serve grpc"),
        () = report_health(reporter, status.clone()) => Ok(()),
        lost = kept.lost(&status) => Err(lost.into()),
        // streams have no end of their own: they are cut
        () = too_late => Ok(()),
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
    channel_by(CONNECTED_WITHIN, move || UnixStream::connect(path.clone()))
}

/// The same to a service that may have been stopped: systemd would start it for whoever knocks at its socket, against its owner's
/// word. So it is asked first, each time; without an answer nobody knocks.
pub fn channel_unless_stopped(socket: &Path, service: &str) -> Channel {
    let (path, unit) = (socket.to_owned(), format!("portmaster-{service}.service"));
    let was_connected = Arc::new(AtomicBool::new(false));
    channel_by(CONNECTED_WITHIN + SETTLES_WITHIN + systemd::PATIENCE, move || {
        let (path, unit, was_connected) = (path.clone(), unit.clone(), Arc::clone(&was_connected));
        async move {
            if ready::is_passed() {
                if was_connected.swap(false, Ordering::Relaxed) {
                    // the connection may break before systemd knows that its service has ended
                    tokio::time::sleep(SETTLES_WITHIN).await;
                }
                let state = systemd::active_state(&unit).await;
                let state = state.map_err(|error| io::Error::other(format!("is {unit} stopped? {error}")))?;
                if state == "deactivating" {
                    // perhaps to be started again
                    return Err(io::Error::other(format!("{unit} is being stopped")));
                }
                if !matches!(state.as_str(), "active" | "activating" | "reloading") {
                    return Err(io::Error::new(
                        io::ErrorKind::NotConnected,
                        format!("{unit} is stopped"),
                    ));
                }
            }
            let stream = UnixStream::connect(path).await?;
            was_connected.store(true, Ordering::Relaxed);
            Ok(stream)
        }
    })
}

fn channel_by<F>(within: Duration, connect: impl Fn() -> F + Clone + Send + Sync + 'static) -> Channel
where
    F: Future<Output = io::Result<UnixStream>> + Send + 'static,
{
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = connect();
        async move { stream.await.map(hyper_util::rt::TokioIo::new) }
    });
    // the address is never looked at
    Endpoint::from_static("http://portmaster.invalid")
        .connect_timeout(within)
        .timeout(CALL_DEADLINE)
        .http2_keep_alive_interval(ASKED_EVERY)
        .keep_alive_timeout(ANSWERED_WITHIN)
        .connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests;
