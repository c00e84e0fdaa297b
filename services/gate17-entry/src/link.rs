//! The stream that the interceptor opens: it announces connections that the policy sends into the tunnel, and says whose a
//! redirected one is.
//!
//! Invariant: only what the interceptor has sent here is carried; nobody else can use this entry.

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
        Carried, FlowQuestion, FromEntry, Open, Opened, Refused, ToEntry, Tunnelled, from_entry::Said,
        to_entry, tunnel_server,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status as Refusal, Streaming};
use verdict::Protocol;

const PROBLEM: &str = "interceptor-unreachable";
/// For the interceptor to say whose a connection is: it asks the kernel, and nobody else.
const PATIENCE: Duration = Duration::from_secs(2);
/// Opened at once for one interceptor; more are refused.
const MOST: usize = 4096;

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

/// One stream's requests; dropped, what is being opened for it ends.
struct Exchange<'a, O> {
    link: &'a Link,
    opener: O,
    replies: mpsc::UnboundedSender<FromEntry>,
    opening: JoinSet<u64>,
    by_request: HashMap<u64, AbortHandle>,
}

impl<'a, O: Opener> Exchange<'a, O> {
    fn new(link: &'a Link, opener: O, replies: mpsc::UnboundedSender<FromEntry>) -> Self {
        Self {
            link,
            opener,
            replies,
            opening: JoinSet::new(),
            by_request: HashMap::new(),
        }
    }

    async fn run(mut self, mut requests: Streaming<ToEntry>) {
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(ToEntry { said: Some(said) })) => self.heard(said),
                    // a newer interceptor says more
                    Ok(Some(ToEntry { said: None })) => {}
                    Ok(None) | Err(_) => return,
                },
                Some(done) = self.opening.join_next() => {
                    if let Ok(request_id) = done {
                        self.by_request.remove(&request_id);
                    }
                }
            }
        }
    }

    fn heard(&mut self, said: to_entry::Said) {
        match said {
            to_entry::Said::Open(open) => self.open(open),
            to_entry::Said::Withdrawn(withdrawn) => {
                if let Some(task) = self.by_request.remove(&withdrawn.request_id) {
                    task.abort();
                }
            }
            to_entry::Said::Flow(answer) => self.link.answered(answer.request_id, answer.connection),
        }
    }

    fn open(
        &mut self,
        Open {
            request_id,
            connection,
        }: Open,
    ) {
        let replies = self.replies.clone();
        let reply = move |said| {
            // the interceptor may be gone: its next process announces anew
            let _ = replies.send(FromEntry { said: Some(said) });
        };
        let Some(connection) = connection else {
            return reply(Said::Refused(refused(request_id, "no connection was named")));
        };
        if self.opening.len() >= MOST {
            return reply(Said::Refused(Refused {
                cause: proto::gate17::v1::Cause::Limit.into(),
                ..refused(request_id, "too many streams are being opened")
            }));
        }
        let opener = self.opener.clone();
        let task = self.opening.spawn(async move {
            reply(match opener.open(connection).await {
                Ok(opened) => Said::Opened(Opened { request_id, ..opened }),
                Err(refused) => Said::Refused(Refused {
                    request_id,
                    ..refused
                }),
            });
            request_id
        });
        self.by_request.insert(request_id, task);
    }
}

fn refused(request_id: u64, text: &str) -> Refused {
    Refused {
        request_id,
        cause: proto::gate17::v1::Cause::Unspecified.into(),
        text: text.to_owned(),
    }
}
