//! `portmaster monitor` against an interceptor that says what the test wants, at the moment that the test wants.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what fails here fails the test"
)]

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use proto::{
    common::v1::{GetStateRequest, ServiceState},
    flow::v1 as flow,
    interceptor::v1::{
        CloseConnectionReply, CloseConnectionRequest, Connection, ConnectionEvent, ConnectionEvents,
        EventKind, ListConnectionsReply, ListConnectionsRequest, WatchEventsRequest,
        interceptor_server::{Interceptor, InterceptorServer},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{net::UnixListener, runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

type Batch = Result<ConnectionEvents, Status>;

/// Hands the sending end of each subscription to the test.
struct Scripted(mpsc::UnboundedSender<mpsc::Sender<Batch>>);

#[tonic::async_trait]
impl Interceptor for Scripted {
    type WatchEventsStream = ReceiverStream<Batch>;
    type ListConnectionsStream = ReceiverStream<Result<ListConnectionsReply, Status>>;

    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        self.0.send(sender).unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_connections(
        &self,
        _: Request<ListConnectionsRequest>,
    ) -> Result<Response<Self::ListConnectionsStream>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn close_connection(
        &self,
        _: Request<CloseConnectionRequest>,
    ) -> Result<Response<CloseConnectionReply>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

struct Server {
    runtime: Runtime,
    subscriptions: mpsc::UnboundedReceiver<mpsc::Sender<Batch>>,
}

impl Server {
    fn start(root: &Path) -> Self {
        let folder = root.join("run/portmaster");
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("interceptor.sock");
        let _was_not_there = std::fs::remove_file(&socket);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, subscriptions) = mpsc::unbounded_channel();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).unwrap()
        };
        let service = InterceptorServer::new(Scripted(sender));
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self {
            runtime,
            subscriptions,
        }
    }

    fn subscription(&mut self) -> mpsc::Sender<Batch> {
        self.subscriptions.blocking_recv().unwrap()
    }

    fn stop(self) {
        self.runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    }
}

fn batch(ids: &[u64], dropped: u64) -> Batch {
    Ok(ConnectionEvents {
        events: ids.iter().copied().map(event).collect(),
        dropped,
        ..ConnectionEvents::default()
    })
}

fn event(id: u64) -> ConnectionEvent {
    let executable = flow::Executable {
        path: "/opt/evil\x1b[2J\napp".to_owned(),
        ..Default::default()
    };
    let process = flow::Process {
        pid: 7,
        executable: Some(executable),
        ..Default::default()
    };
    let protocol = if id.is_multiple_of(2) { 17 } else { 6 };
    let flow = flow::Flow {
        direction: flow::Direction::Outgoing.into(),
        protocol,
        local_address: vec![10, 0, 0, 1],
        local_port: 1000,
        remote_address: vec![192, 0, 2, 1],
        remote_port: 443,
    };
    let decision = flow::Decision {
        verdict: flow::Verdict::Block.into(),
        why: flow::Why::Rule.into(),
        source: "evil#1".to_owned(),
        ..Default::default()
    };
    let connection = Connection {
        id,
        flow: Some(flow),
        process: Some(process),
        decision: Some(decision),
        ..Default::default()
    };
    ConnectionEvent {
        kind: EventKind::Decided.into(),
        time: None,
        connection: Some(connection),
    }
}

struct Monitor {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Monitor {
    fn start(root: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portmaster"));
        command
            .env_remove("PORTMASTER_RUNTIME_DIR")
            .args(["monitor", "--root"])
            .arg(root)
            .args(options);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn id(&mut self) -> u64 {
        serde_json::from_str::<serde_json::Value>(&self.line()).unwrap()["id"]
            .as_u64()
            .unwrap()
    }

    /// Exit status and everything that it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (self.child.wait().unwrap().code(), text)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

#[test]
fn a_line_for_people_is_one_line_without_escapes_of_others() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let mut monitor = Monitor::start(root.path(), &["--color", "never"]);
    let events = server.subscription();
    events.blocking_send(batch(&[1], 0)).unwrap();
    let line = monitor.line();
    assert!(
        !line.trim_end_matches('\n').chars().any(char::is_control),
        "{line:?}"
    );
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "block",
            "out",
            "tcp",
            "evil\\u{1b}[2J\\napp[7]",
            "→",
            "192.0.2.1:443",
            "rule",
            "evil#1"
        ]
    );
    monitor.signal(Signal::INT);
    assert_eq!(monitor.end(), (Some(0), String::new()));
}

#[test]
fn colours_come_when_they_are_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let mut monitor = Monitor::start(root.path(), &["--color", "always"]);
    let events = server.subscription();
    events.blocking_send(batch(&[1], 0)).unwrap();
    assert!(monitor.line().contains("\x1b[31mblock\x1b[0m"));
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.end().0, Some(0));
}

#[test]
fn it_filters_and_says_how_many_events_are_missing() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let mut monitor = Monitor::start(root.path(), &["--json", "--protocol", "udp", "--kind", "decided"]);
    let events = server.subscription();
    events.blocking_send(batch(&[1, 2, 3], 0)).unwrap();
    events.blocking_send(batch(&[4], 17)).unwrap();
    assert_eq!((monitor.id(), monitor.id()), (2, 4));
    monitor.signal(Signal::INT);
    let (code, text) = monitor.end();
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "portmaster: 17 events are missing here: they came faster than they were read\n"
    );
}

#[test]
fn it_outlives_the_interceptor_and_says_so_once() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let mut monitor = Monitor::start(root.path(), &["--json"]);
    let events = server.subscription();
    events.blocking_send(batch(&[1], 0)).unwrap();
    assert_eq!(monitor.id(), 1);
    drop(events);
    server.stop();
    // Long enough for several attempts; the test holds also if there was none.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut server = Server::start(root.path());
    let events = server.subscription();
    events.blocking_send(batch(&[2], 0)).unwrap();
    assert_eq!(monitor.id(), 2);
    monitor.signal(Signal::INT);
    let (code, text) = monitor.end();
    assert_eq!(code, Some(0));
    assert_eq!(text.matches("lost the interceptor").count(), 1, "{text}");
    assert_eq!(text.matches("the interceptor is back").count(), 1, "{text}");
}

#[test]
fn it_ends_when_nobody_reads_any_more_even_without_an_event() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let Monitor { mut child, lines } = Monitor::start(root.path(), &[]);
    let _subscribed = server.subscription();
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_stops_on_ctrl_c_although_its_reader_sleeps() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let mut monitor = Monitor::start(root.path(), &["--json"]);
    let events = server.subscription();
    let many: Vec<u64> = (0..4_000).collect();
    events.blocking_send(batch(&many, 0)).unwrap();
    assert_eq!(monitor.id(), 0); // over a pipe's 64 KiB are under way, and nobody reads the rest
    monitor.signal(Signal::INT);
    assert_eq!(monitor.child.wait().unwrap().code(), Some(0));
}
