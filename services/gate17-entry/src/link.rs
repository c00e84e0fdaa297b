//! The stream that the interceptor opens: it announces connections that the policy sends into the tunnel, and says whose a
//! redirected one is.
//!
//! Invariant: only what the interceptor has sent here is carried; nobody else can use this entry.

mod exchange;

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use daemon::{peer::Peer, status::Status};
use proto::{
    convert::octets,
    flow::v1::Flow,
    gate17::v1::{
        Carried, FlowQuestion, FromEntry, Opened, Refused, ToEntry, Tunnelled, from_entry::Said,
        tunnel_server,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status as Refusal, Streaming};
use verdict::Protocol;

use exchange::Exchange;

const PROBLEM: &str = "interceptor-unreachable";
/// For the interceptor to say whose a connection is: it asks the kernel, and nobody else.
const PATIENCE: Duration = Duration::from_secs(2);
/// An interceptor that is restarted, or that this process has not heard of yet, calls by then.
const COMES_BACK: Duration = Duration::from_secs(3);

/// Asks the interceptor; clones share one stream.
#[derive(Clone, Debug, Default)]
pub struct Link {
    state: Arc<Mutex<State>>,
    /// It is there while there is a stream: both change under the state's lock.
    interceptor: Arc<Peer>,
}

#[derive(Debug, Default)]
struct State {
    /// How many streams there were.
    streams: u64,
    /// Of the present one.
    stream: Option<mpsc::UnboundedSender<FromEntry>>,
    last_question: u64,
    asked: HashMap<u64, oneshot::Sender<Option<Tunnelled>>>,
}

impl Link {
    /// The connection that was redirected here, as the kernel tells it apart by its ends; `None` where our rules sent no such
    /// one, or nobody can say.
    pub async fn whose(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Option<Tunnelled> {
        let began = Instant::now();
        loop {
            if let Some((request_id, answer)) = self.ask(protocol, client, server) {
                match tokio::time::timeout(PATIENCE, answer).await {
                    Ok(Ok(connection)) => return connection,
                    // its stream ended
                    Ok(Err(_)) => {}
                    Err(_) => {
                        self.lock().asked.remove(&request_id);
                        return None;
                    }
                }
            }
            if !self.interceptor.comes_back(began, COMES_BACK).await {
                return None;
            }
        }
    }

    /// Its number, and where the answer comes; none without a stream.
    fn ask(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Option<(u64, oneshot::Receiver<Option<Tunnelled>>)> {
        let (tell, answer) = oneshot::channel();
        let mut state = self.lock();
        state.last_question += 1;
        let request_id = state.last_question;
        let question = FlowQuestion {
            request_id,
            protocol: protocol.0.into(),
            client_address: octets(client.ip()),
            client_port: client.port().into(),
            server_address: octets(server.ip()),
            server_port: server.port().into(),
        };
        let asked = FromEntry {
            said: Some(Said::Flow(question)),
        };
        if state.stream.as_ref()?.send(asked).is_err() {
            state.stream = None;
            self.interceptor.went();
            return None;
        }
        state.asked.insert(request_id, tell);
        Some((request_id, answer))
    }

    /// From now on the interceptor is waited for: connections that the process before this one was told of come at once.
    pub fn is_expected(&self) {
        self.interceptor.is_expected();
    }

    /// A connection that the interceptor told of is carried.
    pub fn carried(&self, flow: Option<Flow>, hops: Vec<String>, circuit: u64) {
        let carried = Carried { flow, hops, circuit };
        if let Some(stream) = &self.lock().stream {
            // an interceptor that is gone tells nobody
            let _ = stream.send(FromEntry {
                said: Some(Said::Carried(carried)),
            });
        }
    }

    fn answered(&self, request_id: u64, connection: Option<Tunnelled>) {
        if let Some(waiting) = self.lock().asked.remove(&request_id) {
            // whoever waited may have given up
            let _ = waiting.send(connection);
        }
    }

    fn begin(&self, stream: mpsc::UnboundedSender<FromEntry>) -> u64 {
        let mut state = self.lock();
        state.lost();
        state.stream = Some(stream);
        self.interceptor.came();
        state.streams
    }

    /// Whether it was the present stream.
    fn end(&self, number: u64) -> bool {
        let mut state = self.lock();
        let present = state.streams == number;
        if present {
            state.lost();
            self.interceptor.went();
        }
        present
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing in here is left half done by a panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whoever waits for the old stream waits no longer.
    fn lost(&mut self) {
        self.streams += 1;
        self.stream = None;
        self.asked.clear();
    }
}

/// Opens what is announced.
pub trait Opener: Clone + Send + Sync + 'static {
    /// Opens a stream for it, and keeps that for the program's connection to come.
    fn open(&self, connection: Tunnelled) -> impl Future<Output = Result<Opened, Refused>> + Send;
}

/// What the interceptor calls.
#[derive(Debug)]
pub struct Service<O> {
    link: Link,
    opener: O,
    status: Status,
}

impl<O> Service<O> {
    /// Nobody has called yet.
    pub fn new(link: Link, opener: O, status: Status) -> Self {
        alone(&status);
        Self { link, opener, status }
    }
}

fn alone(status: &Status) {
    status.raise(
        PROBLEM,
        "the interceptor does not call: nothing is sent into the tunnel",
    );
}

#[tonic::async_trait]
impl<O: Opener> tunnel_server::Tunnel for Service<O> {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<FromEntry, Refusal>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ToEntry>>,
    ) -> Result<Response<Self::ExchangeStream>, Refusal> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let number = self.link.begin(sender.clone());
        self.status.clear(PROBLEM);
        let (link, opener, status) = (self.link.clone(), self.opener.clone(), self.status.clone());
        tokio::spawn(async move {
            Exchange::new(&link, opener, sender)
                .run(request.into_inner())
                .await;
            if link.end(number) {
                alone(&status);
            }
        });
        Ok(Response::new(Box::pin(
            UnboundedReceiverStream::new(receiver).map(Ok),
        )))
    }
}
