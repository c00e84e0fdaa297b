//! The stream to the process-resolver: whose socket is that?
//!
//! Invariant: nobody waits longer than half a second for a resolver that is there, than three seconds for one that is being restarted, and
//! nobody waits at all for one that was not there just before.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use daemon::{grpc, peer::Peer, status::Status};
use proto::resolver::v1::{
    Miss, ResolveReply, ResolveRequest, process_resolver_client::ProcessResolverClient,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use verdict::{Flow, Process};

const PROBLEM: &str = "resolver-unreachable";
/// A query waits so long for its process to be found.
const DEADLINE: Duration = Duration::from_millis(500);
/// A resolver that is restarted is back by then, also where all services are at once, and clients have more patience.
const COMES_BACK: Duration = Duration::from_secs(3);

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
    /// It is there while there is a stream: both change under the state's lock.
    resolver: Peer,
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
        let question = ResolveRequest {
            flow: Some(flow.into()),
            hash,
            traceparent,
            ..ResolveRequest::default()
        };
        let (began, request) = (Instant::now(), self.shared.last.fetch_add(1, Ordering::Relaxed));
        loop {
            if let Some(answer) = self.ask(request, &question) {
                let by = self.shared.resolver.answers_by(began, DEADLINE, COMES_BACK);
                match tokio::time::timeout_at(by, answer).await {
                    Ok(Ok(owner)) => return owner,
                    // its stream ended: it is asked anew on the next
                    Ok(Err(_)) => {}
                    Err(_) => {
                        self.lock().waiting.remove(&request);
                        return Owner::default();
                    }
                }
            }
            if !self.shared.resolver.comes_back(began, COMES_BACK).await {
                return Owner::default();
            }
        }
    }

    /// Where the answer comes; none without a stream.
    fn ask(&self, request: u64, question: &ResolveRequest) -> Option<oneshot::Receiver<Owner>> {
        let mut state = self.lock();
        let question = ResolveRequest {
            request_id: request,
            ..question.clone()
        };
        if state.questions.as_ref()?.send(question).is_err() {
            state.questions = None;
            self.shared.resolver.went();
            return None;
        }
        let (tell, answer) = oneshot::channel();
        state.waiting.insert(request, tell);
        Some(answer)
    }

    /// Returns when the resolver was reached, but waits no longer than a query would: whoever asks in the first moments of this
    /// process is not to be taken for nobody.
    pub async fn reached(&self) {
        self.shared.resolver.is_expected();
        self.shared.resolver.comes_back(Instant::now(), DEADLINE).await;
    }

    fn began(&self, questions: mpsc::UnboundedSender<ResolveRequest>) {
        let mut state = self.lock();
        state.questions = Some(questions);
        self.shared.resolver.came();
    }

    /// Whoever waits for an answer of the stream that is over asks anew.
    fn ended(&self) {
        let mut state = self.lock();
        *state = State::default();
        self.shared.resolver.went();
    }

    /// Keeps the stream open until `shutdown`.
    pub async fn run(self, channel: Channel, status: Status, shutdown: CancellationToken) {
        let connect = || {
            let (channel, this, status) = (channel.clone(), self.clone(), status.clone());
            async move {
                this.ended();
                let (questions, receiver) = mpsc::unbounded_channel();
                let opened = ProcessResolverClient::new(channel)
                    .resolve(UnboundedReceiverStream::new(receiver))
                    .await;
                match opened {
                    Ok(replies) => {
                        status.clear(PROBLEM);
                        this.began(questions);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use verdict::{Direction, Endpoint, Protocol};

    async fn ask(attribution: &Attribution) -> (Owner, Duration) {
        let end = |port| Endpoint::new(IpAddr::from([127, 0, 0, 1]), port);
        let flow = Flow {
            direction: Direction::Outgoing,
            protocol: Protocol::UDP,
            local: end(4000),
            remote: end(53),
        };
        let began = Instant::now();
        (
            attribution.owner(flow, false, String::new()).await,
            began.elapsed(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_being_restarted_is_waited_for_and_one_that_is_away_is_not() {
        let attribution = Attribution::default();
        assert_eq!(ask(&attribution).await.1, Duration::ZERO, "it was never there");
        attribution.reached().await;
        assert_eq!(ask(&attribution).await.1, COMES_BACK, "it does not come");

        let (questions, mut asked) = mpsc::unbounded_channel();
        attribution.began(questions);
        tokio::time::advance(COMES_BACK).await;
        assert_eq!(ask(&attribution).await.1, DEADLINE, "it does not answer");
        let _given_up = asked.recv().await.unwrap();
        let restart = async {
            let lost = asked.recv().await.unwrap();
            attribution.ended();
            tokio::time::sleep(COMES_BACK / 2).await;
            let (questions, mut asked) = mpsc::unbounded_channel();
            attribution.began(questions);
            let again = asked.recv().await.unwrap();
            assert_eq!((again.request_id, &again.flow), (lost.request_id, &lost.flow));
            attribution.answered(ResolveReply {
                request_id: again.request_id,
                socket_uid: Some(7),
                ..ResolveReply::default()
            });
        };
        let ((owner, took), ()) = tokio::join!(ask(&attribution), restart);
        assert_eq!((owner.uid, took), (Some(7), COMES_BACK / 2));
        attribution.ended();
        tokio::time::advance(COMES_BACK).await;
        assert_eq!(ask(&attribution).await.1, Duration::ZERO, "it is away for longer");
    }
}
