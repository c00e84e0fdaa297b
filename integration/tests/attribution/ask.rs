//! Asking the resolver.

use std::net::SocketAddr;

use integration::{Service, World, events::channel};
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    resolver::v1::{
        LookupRequest, Miss, ResolveReply, ResolveRequest, lookup_request::Subject,
        process_resolver_client::ProcessResolverClient,
    },
};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use verdict::{Direction, Endpoint, Flow, Process, Protocol};

/// Where sockets may be looked up. All must give the same answers.
const WAYS: [&str; 2] = ["auto", "proc"];

/// Namespaces and a folder; no service yet.
pub(crate) fn world(label: &str) -> World {
    World::builder(label).without_services().without_bus().start()
}

/// Starts a resolver of each way in turn, and asks it the same things.
pub(crate) fn each_way(world: &mut World, ask: impl Fn(&mut Asker, &str)) {
    for way in WAYS {
        world.config_file("process-resolver.toml", &format!("socket_lookup = \"{way}\"\n"));
        let mut asker = Asker::start(world);
        ask(&mut asker, way);
        world.stop(Service::Resolver);
    }
}

/// A client of a running resolver.
pub(crate) struct Asker {
    runtime: Runtime,
    client: ProcessResolverClient<Channel>,
}

impl Asker {
    /// Starts the resolver, too.
    pub(crate) fn start(world: &mut World) -> Self {
        world.start_service(Service::Resolver);
        Self::of(world)
    }

    /// Of a resolver that runs.
    pub(crate) fn of(world: &World) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let socket = world.socket(Service::Resolver);
        let client = runtime.block_on(async { ProcessResolverClient::new(channel(&socket)) });
        Self { runtime, client }
    }

    pub(crate) fn lookup(&mut self, flow: Flow) -> Result<Process, Miss> {
        self.ask(Subject::Flow(flow.into()), false)
    }

    /// With the executable's hash.
    pub(crate) fn hashed(&mut self, pid: u32) -> Result<Process, Miss> {
        self.ask(Subject::Pid(pid), true)
    }

    pub(crate) fn pid(&mut self, pid: u32) -> Result<Process, Miss> {
        self.ask(Subject::Pid(pid), false)
    }

    /// The pid that a flow belongs to.
    #[track_caller]
    pub(crate) fn owner(&mut self, flow: Flow) -> u32 {
        self.lookup(flow)
            .unwrap_or_else(|miss| panic!("{flow} has no owner: {miss:?}"))
            .pid
    }

    /// Sends all requests at once on one stream, and returns the answers in the order in which they come.
    pub(crate) fn resolve(&mut self, requests: Vec<ResolveRequest>) -> Vec<ResolveReply> {
        let count = requests.len();
        let client = &mut self.client;
        self.runtime.block_on(async {
            // the stream stays open until all is answered
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            for request in requests {
                sender.send(request).unwrap();
            }
            let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
            let mut replies = client.resolve(requests).await.unwrap().into_inner();
            let mut all = Vec::new();
            while all.len() < count {
                let reply = replies.message().await.unwrap().expect("the stream stays open");
                // an announcement of the answer, not the answer
                if reply.miss() != Miss::Searching {
                    all.push(reply);
                }
            }
            drop(sender);
            all
        })
    }

    /// Asks on a stream that stays open as long as what is returned; returns when the answer is being looked for.
    pub(crate) fn begin(&mut self, request: ResolveRequest) -> impl Sized + use<> {
        let client = &mut self.client;
        self.runtime.block_on(async {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            sender.send(request).unwrap();
            let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
            let mut replies = client.resolve(requests).await.unwrap().into_inner();
            let first = replies.message().await.unwrap().expect("the stream stays open");
            assert_eq!(first.miss(), Miss::Searching);
            sender
        })
    }

    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        let counters = self.state().counters;
        *counters
            .get(name)
            .unwrap_or_else(|| panic!("no counter {name} among {counters:?}"))
    }

    pub(crate) fn state(&mut self) -> ServiceState {
        let state = self.runtime.block_on(self.client.get_state(GetStateRequest {}));
        state.unwrap().into_inner()
    }

    fn ask(&mut self, subject: Subject, hash: bool) -> Result<Process, Miss> {
        let request = LookupRequest {
            subject: Some(subject),
            hash,
        };
        let reply = self.runtime.block_on(self.client.lookup(request));
        let reply = reply.unwrap().into_inner();
        match (reply.miss(), reply.process) {
            (Miss::Unspecified, Some(process)) => Ok(process.try_into().unwrap()),
            (miss, None) => Err(miss),
            (miss, Some(process)) => panic!("both a process and a miss: {miss:?} {process:?}"),
        }
    }
}

/// A flow that a program here opens.
pub(crate) fn outgoing(
    protocol: Protocol,
    local: impl Into<SocketAddr>,
    remote: impl Into<SocketAddr>,
) -> Flow {
    flow(Direction::Outgoing, protocol, local.into(), remote.into())
}

/// A flow that somebody else opens.
pub(crate) fn incoming(
    protocol: Protocol,
    local: impl Into<SocketAddr>,
    remote: impl Into<SocketAddr>,
) -> Flow {
    flow(Direction::Incoming, protocol, local.into(), remote.into())
}

fn flow(direction: Direction, protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow {
        direction,
        protocol,
        local: Endpoint::new(local.ip(), local.port()),
        remote: Endpoint::new(remote.ip(), remote.port()),
    }
}
