//! The stream to the process-resolver: whose socket is that?
//!
//! Invariant: nobody waits longer than the deadline, and nobody waits at all for a resolver that cannot be reached.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use daemon::{grpc, status::Status};
use proto::resolver::v1::{
    Miss, ResolveReply, ResolveRequest, process_resolver_client::ProcessResolverClient,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use verdict::{Flow, Process};

const PROBLEM: &str = "resolver-unreachable";
/// A query waits so long for its process to be found.
const DEADLINE: Duration = Duration::from_millis(500);

/// Whose socket a flow belongs to.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// None where it could not be found.
    pub process: Option<Arc<Process>>,
    /// The socket's.
    pub uid: Option<u32>,
    /// The resolver said so; else nobody knows.
    pub is_said: bool,
}

/// Asks; clones share one stream.
#[derive(Clone, Debug, Default)]
pub struct Attribution {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    last: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Of the present stream.
    questions: Option<mpsc::UnboundedSender<ResolveRequest>>,
    waiting: HashMap<u64, oneshot::Sender<Owner>>,
    /// What the present stream told, by its keys.
    processes: HashMap<u64, Arc<Process>>,
}

impl Attribution {
    /// The owner of a flow's socket; nobody's where the resolver does not say in time. `hash`: with its executable's hash.
    /// `traceparent`: of the query that this is for; empty where it is not traced.
    pub async fn owner(&self, flow: Flow, hash: bool, traceparent: String) -> Owner {
        let request_id = self.shared.last.fetch_add(1, Ordering::Relaxed);
        let answer = {
            let mut state = self.lock();
            let (tell, answer) = oneshot::channel();
            let question = ResolveRequest {
                request_id,
                flow: Some(flow.into()),
                hash,
                traceparent,
                ..ResolveRequest::default()
            };
            let sent = state
                .questions
                .as_ref()
                .is_some_and(|questions| questions.send(question).is_ok());
            if !sent {
                return Owner::default();
            }
            state.waiting.insert(request_id, tell);
            answer
        };
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(owner) => owner.unwrap_or_default(),
            Err(_) => {
                self.lock().waiting.remove(&request_id);
                Owner::default()
            }
        }
    }

    /// Keeps the stream open until `shutdown`.
    pub async fn run(self, channel: Channel, status: Status, shutdown: CancellationToken) {
        let connect = || {
            let (channel, this, status) = (channel.clone(), self.clone(), status.clone());
            async move {
                *this.lock() = State::default();
                let (questions, receiver) = mpsc::unbounded_channel();
                let opened = ProcessResolverClient::new(channel)
                    .resolve(UnboundedReceiverStream::new(receiver))
                    .await;
                match opened {
                    Ok(replies) => {
                        status.clear(PROBLEM);
                        this.lock().questions = Some(questions);
                        Ok(replies.into_inner())
                    }
                    Err(refused) => {
                        let text = "process-resolver cannot be reached: queries are decided as of an unknown process";
                        status.raise(PROBLEM, text);
                        Err(refused)
                    }
                }
            }
        };
        let malformed = status.counter("answers_malformed");
        grpc::follow("process-resolver", shutdown, connect, |reply: ResolveReply| {
            if reply.miss() != Miss::Searching && !self.answered(reply) {
                malformed.add(1);
            }
        })
        .await;
    }

    /// False where it makes no sense.
    fn answered(&self, reply: ResolveReply) -> bool {
        let mut state = self.lock();
        for key in &reply.ended {
            state.processes.remove(key);
        }
        let mut makes_sense = true;
        if let Some(process) = reply.process {
            match Process::try_from(process) {
                Ok(process) => drop(state.processes.insert(reply.process_key, Arc::new(process))),
                Err(_) => makes_sense = false,
            }
        }
        let process = state.processes.get(&reply.process_key).cloned();
        let uid = reply
            .socket_uid
            .or_else(|| process.as_ref().map(|process| process.uid));
        if let Some(waiting) = state.waiting.remove(&reply.request_id) {
            // whoever asked may have given up
            let _ = waiting.send(Owner {
                process,
                uid,
                is_said: true,
            });
        }
        makes_sense
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // nothing in here is left half done by a panic
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
