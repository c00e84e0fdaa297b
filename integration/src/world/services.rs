//! Starting, killing and restarting the services one by one.

use std::{fs, io::ErrorKind, os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration};

use super::World;
use crate::{Running, binary, wait::eventually};

/// Nobody's.
const MESH_UID: &str = "60717";

/// A service of the mesh, in the order in which they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// portmaster-process-resolver
    Resolver,
    /// portmaster-policy
    Policy,
    /// portmaster-interceptor
    Interceptor,
    /// portmaster-dns; only where a test asks for it
    Dns,
    /// portmaster-gate17-entry; only where a test asks for it
    Gate17Entry,
    /// portmaster-api-gateway; only where a test asks for it
    ApiGateway,
}

impl Service {
    /// Those that every world has.
    pub const ALL: [Self; 3] = [Self::Resolver, Self::Policy, Self::Interceptor];

    /// The word that sockets, folders and files are called by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolver => "process-resolver",
            Self::Policy => "policy",
            Self::Interceptor => "interceptor",
            Self::Dns => "dns",
            Self::Gate17Entry => "gate17-entry",
            Self::ApiGateway => "api-gateway",
        }
    }

    /// The program's file name.
    pub fn program(self) -> String {
        format!("portmaster-{}", self.name())
    }
}

impl World {
    /// Starts a service, and returns once it says that it is ready.
    ///
    /// # Panics
    /// With its log, if it ends or does not become ready.
    #[track_caller]
    pub fn start_service(&mut self, service: Service) {
        let command = self.service_command(service);
        self.start_as(service, command);
    }

    /// The command that starts a service, for tests that add to it.
    pub fn service_command(&self, service: Service) -> Command {
        self.command_of(service, &binary(&service.program()))
    }

    /// The same for a program of another version, anywhere.
    pub fn command_of(&self, service: Service, program: &Path) -> Command {
        let mut command = self.program_command(program);
        // all of them run as root here: the firewall knows the mesh's own traffic by this user
        match service {
            Service::Interceptor => command.args(["--mesh-uid", MESH_UID]),
            Service::Dns | Service::Gate17Entry | Service::ApiGateway => {
                command.args(["--socket-uid", MESH_UID])
            }
            Service::Resolver | Service::Policy => &mut command,
        };
        command
    }

    /// With the root of this world, and a log that tests can read.
    pub fn program_command(&self, program: &Path) -> Command {
        let mut command = self.command(program);
        command.arg("--root").arg(self.root());
        command.env(
            "PORTMASTER_LOG",
            std::env::var("PORTMASTER_LOG").unwrap_or_else(|_| "debug".to_owned()),
        );
        command.env("NO_COLOR", "1");
        command
    }

    /// Starts a service by a command made from [`World::service_command`], and waits until it is ready.
    ///
    /// # Panics
    /// With its log, if it ends or does not become ready.
    #[track_caller]
    pub fn start_as(&mut self, service: Service, mut command: Command) {
        assert!(
            !self.services.contains_key(&service),
            "{} runs already",
            service.name()
        );
        let notify = self.notify_socket(service);
        command.env("NOTIFY_SOCKET", self.notify_path(service));
        let mut running = Running::start_logged(service.name(), command, &self.log(service));
        eventually(&format!("{} is ready", service.name()), || {
            if let Some(status) = running.ended() {
                panic!(
                    "{} ended with {status} before it was ready:\n{}",
                    service.name(),
                    running.output()
                );
            }
            is_ready(&notify).then_some(())
        });
        self.services.insert(service, running);
    }

    /// The running process of a service.
    ///
    /// # Panics
    /// If it was not started.
    pub fn service(&self, service: Service) -> &Running {
        self.services
            .get(&service)
            .unwrap_or_else(|| panic!("{} does not run", service.name()))
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Panics
    /// If it was not started.
    pub fn kill(&mut self, service: Service) {
        self.take(service).kill();
    }

    /// SIGTERM; returns when it is gone.
    ///
    /// # Panics
    /// If it was not started, or ended with an error.
    #[track_caller]
    pub fn stop(&mut self, service: Service) {
        let status = self.take(service).stop();
        assert!(
            status.success(),
            "{} ended with {status} on SIGTERM:\n{}",
            service.name(),
            self.output(service)
        );
    }

    /// Everything that a service printed, over all its starts.
    pub fn output(&self, service: Service) -> String {
        fs::read_to_string(self.log(service)).unwrap_or_default()
    }

    fn take(&mut self, service: Service) -> Running {
        self.services
            .remove(&service)
            .unwrap_or_else(|| panic!("{} does not run", service.name()))
    }

    fn log(&self, service: Service) -> std::path::PathBuf {
        self.root().join(format!("{}.log", service.name()))
    }

    fn notify_path(&self, service: Service) -> std::path::PathBuf {
        self.root().join(format!("{}.notify", service.name()))
    }

    fn notify_socket(&self, service: Service) -> UnixDatagram {
        let path = self.notify_path(service);
        let _gone = fs::remove_file(&path);
        let socket =
            UnixDatagram::bind(&path).unwrap_or_else(|error| panic!("bind {}: {error}", path.display()));
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("set a timeout");
        socket
    }
}

/// Reads what is there; sd_notify(3) says READY=1 on a line of its own.
fn is_ready(notify: &UnixDatagram) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match notify.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                if text.lines().any(|line| line == "READY=1") {
                    return true;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) => panic!("read a readiness socket: {error}"),
        }
    }
}

impl Drop for World {
    /// A failing test shows what the services said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for service in
                Service::ALL
                    .into_iter()
                    .chain([Service::Dns, Service::Gate17Entry, Service::ApiGateway])
            {
                let output = self.output(service);
                let tail: Vec<_> = output.lines().rev().take(60).collect();
                let tail: String = tail.into_iter().rev().map(|line| format!("{line}\n")).collect();
                eprintln!("──── the last of {}'s log ────\n{tail}", service.name());
            }
        }
    }
}
