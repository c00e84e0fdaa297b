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

use daemon::status::Status;
use proto::{
    convert::octets,
    flow::v1::Flow,
    gate17::v1::{
        Carried, FlowQuestion, FromEntry, Opened, Refused, ToEntry, Tunnelled, from_entry::Said,
        tunnel_server,
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status as Refusal, Streaming};
use verdict::Protocol;

use exchange::Exchange;

const PROBLEM: &str = "interceptor-unreachable";
/// For the interceptor to say whose a connection is: it asks the kernel, and nobody else.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the interceptor; clones share one stream.
#[derive(Clone, Debug, Default)]
pub struct Link {
    state: Arc<Mutex<State>>,
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
        let (tell, answer) = oneshot::channel();
        let request_id = {
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
            let stream = state.stream.as_ref()?;
            let asked = FromEntry {
                said: Some(Said::Flow(question)),
            };
            stream.send(asked).ok()?;
            state.asked.insert(request_id, tell);
            request_id
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        if answer.is_err() {
            self.lock().asked.remove(&request_id);
        }
        answer.ok()?.ok()?
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
        state.streams
    }

    /// Whether it was the present stream.
    fn end(&self, number: u64) -> bool {
        let mut state = self.lock();
        let present = state.streams == number;
        if present {
            state.lost();
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
