//! Where the services are, and what to tell a person who cannot reach them.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use clap::Args;
use tonic::{Code, Status, transport::Channel};

/// A service of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Interceptor,
    ProcessResolver,
    Policy,
    /// Not part of every installation: see [`PlaceArgs::services`].
    Dns,
    /// The same.
    Gate17Entry,
    /// The same.
    ApiGateway,
}

impl Service {
    /// Those that a firewall cannot do without.
    pub(crate) const ALL: [Self; 3] = [Self::Interceptor, Self::ProcessResolver, Self::Policy];

    /// The word that its socket is called by.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interceptor => "interceptor",
            Self::ProcessResolver => "process-resolver",
            Self::Policy => "policy",
            Self::Dns => "dns",
            Self::Gate17Entry => "gate17-entry",
            Self::ApiGateway => "api-gateway",
        }
    }
}

/// Where the services are.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where the services are")]
pub struct PlaceArgs {
    /// Folder that all their paths are below [default: /]
    #[arg(long, value_name = "DIR", env = "PORTMASTER_ROOT", hide_env_values = true)]
    pub root: Option<PathBuf>,
    /// Folder of their sockets [default: ROOT/run/portmaster]
    #[arg(
        long,
        value_name = "DIR",
        env = "PORTMASTER_RUNTIME_DIR",
        hide_env_values = true
    )]
    pub runtime_dir: Option<PathBuf>,
}

impl PlaceArgs {
    /// Path of a service's socket.
    pub(crate) fn socket(&self, service: Service) -> PathBuf {
        let below_root = || {
            self.root
                .clone()
                .unwrap_or_else(|| PathBuf::from("/"))
                .join("run/portmaster")
        };
        let folder = self.runtime_dir.clone().unwrap_or_else(below_root);
        folder.join(format!("{}.sock", service.name()))
    }

    /// Those that systemd runs on this host, and nobody else's.
    pub(crate) const fn is_of_host(&self) -> bool {
        self.root.is_none() && self.runtime_dir.is_none()
    }

    /// The services that are to run here: the DNS server only where its socket is.
    pub(crate) fn services(&self) -> Vec<Service> {
        let others = [Service::Dns, Service::Gate17Entry, Service::ApiGateway].into_iter();
        let present = others.filter(|other| self.socket(*other).exists());
        Service::ALL.into_iter().chain(present).collect()
    }

    /// A channel that connects when it is used, and again after the service was away.
    pub(crate) fn channel(&self, service: Service) -> Channel {
        daemon::grpc::channel(&self.socket(service))
    }

    /// Why `service` could not be asked, for people, with the remedy.
    pub(crate) fn unreachable(&self, service: Service, status: &Status) -> anyhow::Error {
        let why = self.why(service, status);
        match trouble(status) {
            Trouble::Away(_) => anyhow!("cannot reach {why}: is it running? `portmaster status` tells"),
            Trouble::Forbidden | Trouble::Answer => anyhow!(why),
        }
    }

    /// The same in short.
    pub(crate) fn why(&self, service: Service, status: &Status) -> String {
        let (name, path) = (service.name(), self.socket(service));
        let path = path.display();
        match trouble(status) {
            Trouble::Forbidden => format!(
                "may not talk to {name} at {path}: join group portmaster (usermod -aG portmaster USER, then log in again) or be root"
            ),
            Trouble::Away(cause) => format!("{name} at {path}: {cause}"),
            Trouble::Answer => format!("{name} at {path} refused: {}", status.message()),
        }
    }

    /// Asks a service; what it cannot answer becomes [`Self::unreachable`].
    pub(crate) fn answer<T>(&self, service: Service, reply: Result<tonic::Response<T>, Status>) -> Result<T> {
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.unreachable(service, &status))
    }
}

/// One of our other programs: beside this one, as it is built; or where an installation has them, below the same prefix.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| anyhow!("find our own program: {error}"))?;
    let beside = own.with_file_name(name);
    let prefix = own.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let installed = prefix.join("libexec/portmaster").join(name);
    [&beside, &installed]
        .into_iter()
        .find(|path| path.exists())
        .cloned()
        .ok_or_else(|| {
            anyhow!(
                "{name} is not there, neither as {} nor as {}: build or install it",
                beside.display(),
                installed.display()
            )
        })
}

/// What keeps us from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The socket, or the service itself, does not let us.
    Forbidden,
    /// Nobody answers, and why.
    Away(String),
    /// It answered, with an error.
    Answer,
}

/// Sorts a call's error by what a person can do about it.
pub(crate) fn trouble(status: &Status) -> Trouble {
    let cause = io_cause(status);
    let forbidden = cause.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    match status.code() {
        _ if forbidden => Trouble::Forbidden,
        Code::PermissionDenied | Code::Unauthenticated => Trouble::Forbidden,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            Trouble::Away(cause.map_or_else(|| status.message().to_owned(), cause_text))
        }
        _ => Trouble::Answer,
    }
}

fn cause_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => error.to_string(),
    }
}

fn io_cause(status: &Status) -> Option<&io::Error> {
    let mut error: Option<&(dyn Error + 'static)> = status.source();
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return Some(found);
        }
        error = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_below_the_root_unless_their_folder_is_given() {
        let socket = |root: Option<&str>, runtime: Option<&str>| {
            let place = PlaceArgs {
                root: root.map(PathBuf::from),
                runtime_dir: runtime.map(PathBuf::from),
            };
            place.socket(Service::ProcessResolver).display().to_string()
        };
        assert_eq!(socket(None, None), "/run/portmaster/process-resolver.sock");
        assert_eq!(
            socket(Some("/tmp/x"), None),
            "/tmp/x/run/portmaster/process-resolver.sock"
        );
        assert_eq!(
            socket(Some("/tmp/x"), Some("/tmp/y")),
            "/tmp/y/process-resolver.sock"
        );
    }

    #[test]
    fn the_dns_server_counts_where_its_socket_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = PlaceArgs {
            root: None,
            runtime_dir: Some(folder.path().to_owned()),
        };
        assert_eq!(place.services(), Service::ALL);
        std::fs::write(folder.path().join("dns.sock"), "").unwrap();
        assert_eq!(place.services().last(), Some(&Service::Dns));
    }

    #[test]
    fn the_remedy_follows_the_trouble() {
        let place = PlaceArgs::default();
        let text = |status: &Status| place.unreachable(Service::Policy, status).to_string();
        assert!(text(&Status::permission_denied("no")).contains("join group portmaster"));
        assert!(
            text(&Status::unavailable("x"))
                .contains("cannot reach policy at /run/portmaster/policy.sock: x: is it running?")
        );
        assert!(text(&Status::invalid_argument("no flow")).ends_with("refused: no flow"));
        let from_system = |kind: io::ErrorKind| Status::from_error(Box::new(io::Error::from(kind)));
        assert_eq!(
            trouble(&from_system(io::ErrorKind::PermissionDenied)),
            Trouble::Forbidden
        );
        assert_eq!(
            trouble(&from_system(io::ErrorKind::NotFound)),
            Trouble::Away("there is no such socket".to_owned())
        );
    }
}
