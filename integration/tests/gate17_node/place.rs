//! A node, a client's host and a server's host.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use integration::{Namespace, Running, binary, eventually, link::End};
use tempfile::TempDir;

/// `client` — `node` — `far`.
pub(crate) struct Place {
    pub(crate) process: Running,
    pub(crate) client: Namespace,
    pub(crate) far: Namespace,
    /// Where the node is.
    pub(crate) host: Namespace,
    /// Where the client reaches the node.
    pub(crate) node: End,
    /// Where the node reaches the server, and the server's own end.
    pub(crate) out: End,
    pub(crate) server: End,
    pub(crate) folder: TempDir,
}

pub(crate) const OPEN: &str = "access = 'none'\nexit = [{ allow = true, to = '10.17.0.0/16', ports = '*' }, \
                               { allow = true, to = 'fd17::/16', ports = '*' }, { allow = true, to = '*', ports = '*' }]\n";

impl Place {
    /// With such a configuration.
    pub(crate) fn new(config: &str) -> Self {
        Self::started(config, |host, folder| {
            let mut command = host.command(binary("portmaster-gate17-node"));
            command.arg("--root").arg(folder);
            command
        })
    }

    /// The same with a node that is started by `start`, which gets its host and the folder that has its configuration.
    pub(crate) fn started(config: &str, start: impl FnOnce(&Namespace, &Path) -> Command) -> Self {
        let (client, host, far) = (
            Namespace::new("client"),
            Namespace::new("node"),
            Namespace::new("far"),
        );
        let (near, out) = (
            Namespace::connect(&client, &host),
            Namespace::connect(&host, &far),
        );
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("etc/portmaster");
        fs::create_dir_all(&settings).unwrap();
        fs::write(settings.join("gate17-node.toml"), config).unwrap();
        let command = start(&host, folder.path());
        let process = Running::start_logged("the node", command, &folder.path().join("log"));
        let place = Self {
            process,
            client,
            far,
            host,
            node: near.b,
            out: out.a,
            server: out.b,
            folder,
        };
        eventually("the node is ready", || {
            place.process.output().contains("ready").then_some(())
        });
        place
    }

    /// A connection from the client to a port of the node, with these octets sent.
    pub(crate) fn say(&self, port: u16, octets: &[u8]) -> Option<TcpStream> {
        let mut stream = self
            .client
            .enter(|| TcpStream::connect((self.node.v4, port)))
            .ok()?;
        stream.set_read_timeout(Some(integration::PATIENCE)).unwrap();
        stream.write_all(octets).unwrap();
        Some(stream)
    }

    /// A file of the node's configuration.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        daemon::files::replace(&self.folder.path().join("etc/portmaster").join(name), content).unwrap();
    }

    /// By what others know the node.
    pub(crate) fn pin(&self) -> String {
        let log = self.process.output();
        let at = log.find("sha256:").expect("the node says its key");
        log[at..at + 71].to_owned()
    }

    /// curl, at the client.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Output {
        let mut command = self.client.command("curl");
        command.args(["-sS", "--max-time", "60"]).args(arguments);
        command.output().unwrap()
    }

    /// curl by way of the node.
    pub(crate) fn through(&self, arguments: &[&str]) -> Output {
        let proxy = format!("https://{}", self.node.v4);
        let mut all = vec!["--proxy-insecure", "--proxytunnel", "--proxy", &proxy];
        all.extend(arguments);
        self.curl(&all)
    }

    /// A file server at the far end, with one file `big` of random octets; its address, and the file.
    pub(crate) fn files(&self, size: usize) -> (Running, String, PathBuf) {
        let www = self.folder.path().join("www");
        fs::create_dir_all(&www).unwrap();
        let big = www.join("big");
        let mut octets = vec![0; size];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for place in octets.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            place.copy_from_slice(&state.to_le_bytes()[..place.len()]);
        }
        fs::write(&big, octets).unwrap();
        let mut command = self.far.command("python3");
        command
            .args(["-m", "http.server", "--bind", "::", "8000", "-d"])
            .arg(&www);
        let running = Running::start_logged("the file server", command, &self.folder.path().join("www.log"));
        let address = self.server.v4;
        eventually("the file server listens", || {
            self.far.enter(|| TcpStream::connect((address, 8000))).ok()
        });
        (running, format!("http://{address}:8000/big"), big)
    }
}

/// What a command printed.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
