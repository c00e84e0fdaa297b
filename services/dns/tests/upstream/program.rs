//! Name servers of the distribution, on loopback, as children of the test.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{GENEROUS, certificates::Certificates};

/// Ends when it is dropped.
pub(crate) struct Program {
    child: Child,
    _directory: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Waits until it takes connections on the port `ready`.
    pub(crate) fn start(path: &str, arguments: &[&str], directory: TempDir, ready: u16) -> Self {
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{path}: {error}; install unbound, nsd and ldnsutils"));
        let mut made = Self {
            child,
            _directory: directory,
        };
        let end = Instant::now() + GENEROUS;
        while TcpStream::connect(("127.0.0.1", ready)).is_err() {
            let log = std::fs::read_to_string(made._directory.path().join("log")).unwrap();
            let ended = made.child.try_wait().unwrap();
            assert!(
                Instant::now() < end && ended.is_none(),
                "{path} does not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        made
    }
}

/// A port that is free over UDP and TCP.
pub(crate) fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// Unbound over UDP, TCP, TLS and HTTPS.
pub(crate) struct Unbound {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: u16,
    pub(crate) https: u16,
    _program: Program,
}

impl Unbound {
    /// Knows `host.example` and `large.example` by itself; `certificate` is a file in `certificates`.
    pub(crate) fn start(certificates: &Certificates, certificate: &str) -> Self {
        let (plain, tls, https) = (free_port(), free_port(), free_port());
        Self::start_on(certificates, certificate, plain, tls, https)
    }

    pub(crate) fn start_on(
        certificates: &Certificates,
        certificate: &str,
        plain: u16,
        tls: u16,
        https: u16,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let mut large = String::new();
        for n in 0..40 {
            writeln!(
                large,
                "local-data: 'large.example. TXT \"{n:03} {}\"'",
                "x".repeat(100)
            )
            .unwrap();
        }
        let config = format!(
            "server:\n username: ''\n chroot: ''\n directory: '{0}'\n pidfile: ''\n use-syslog: no\n logfile: ''\n \
             do-daemonize: no\n interface: 127.0.0.1@{plain}\n interface: 127.0.0.1@{tls}\n interface: 127.0.0.1@{https}\n \
             tls-port: {tls}\n https-port: {https}\n tls-service-key: '{1}'\n tls-service-pem: '{2}'\n \
             do-ip6: no\n module-config: 'iterator'\n num-threads: 1\n \
             local-zone: example. static\n local-data: 'host.example. A 192.0.2.7'\n {large}\n\
             remote-control:\n control-enable: no\n",
            directory.path().display(),
            certificates.path(&format!("{certificate}.key")).display(),
            certificates.path(&format!("{certificate}.pem")).display(),
        );
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, config).unwrap();
        let program = Program::start(
            "/usr/sbin/unbound",
            &["-d", "-c", file.to_str().unwrap()],
            directory,
            tls,
        );
        Self {
            plain: SocketAddr::from(([127, 0, 0, 1], plain)),
            tls,
            https,
            _program: program,
        }
    }

    /// The text of the upstream and its authority, as a table.
    pub(crate) fn upstream(url: &str, authority: &Path) -> String {
        format!(
            "[[servers]]\nserver = '{url}'\nca_file = '{}'\n",
            authority.display()
        )
    }
}
