//! The gRPC service. The stream answers at once what can be answered at once; what takes long is searched beside it.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use daemon::{
    metrics::{Histogram, STAGE},
    status::Status as ServiceStatus,
    telemetry::{self, Span},
};
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    resolver::v1::{
        LookupReply, LookupRequest, Miss as WireMiss, ResolveReply, ResolveRequest, lookup_request::Subject,
        process_resolver_server::ProcessResolver,
    },
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use verdict::Flow;

use crate::{
    hash::Hashes,
    known::Known,
    ladder::{Answer, Ladder, Miss, Quick, Search},
};

/// Longer than the longest patience of a caller; a search of everything takes tens of milliseconds.
const SEARCH_DEADLINE: Duration = Duration::from_secs(2);
/// Searches that may wait on one stream. Reading tables takes milliseconds and mostly finds nothing, and a flood of closed
/// sockets must not keep others waiting; of many holders that are searched for at once, the first search finds most.
const MOST_SEARCHES: usize = 1024;
const MOST_TABLE_SEARCHES: usize = 16;
/// New processes told on a stream between two looks at who has ended.
const SWEEP_EVERY: usize = 256;

/// See the module's head.
#[derive(Debug)]
pub struct Service {
    /// Finds.
    pub ladder: Arc<Ladder>,
    /// Hashes.
    pub hashes: Arc<Hashes>,
    /// Searches under way at once.
    pub searches: Arc<Semaphore>,
    /// Health and counters.
    pub status: ServiceStatus,
}

#[tonic::async_trait]
impl ProcessResolver for Service {
    type ResolveStream = Pin<Box<dyn Stream<Item = Result<ResolveReply, Status>> + Send>>;

    async fn resolve(
        &self,
        request: Request<Streaming<ResolveRequest>>,
    ) -> Result<Response<Self::ResolveStream>, Status> {
        let (replies, receiver) = mpsc::unbounded_channel();
        let (found, searched) = mpsc::unbounded_channel();
        let conversation = Conversation {
            ladder: Arc::clone(&self.ladder),
            searches: Arc::clone(&self.searches),
            hashes: Arc::clone(&self.hashes),
            told: Told::default(),
            beside_now: 0,
            tables_now: 0,
            traced: HashMap::new(),
            quick: self.status.histogram(STAGE, &[("portmaster.stage", "resolve")]),
            search: self.status.histogram(STAGE, &[("portmaster.stage", "search")]),
            replies,
            found,
        };
        tokio::spawn(conversation.run(request.into_inner(), searched));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupReply>, Status> {
        let LookupRequest { subject, hash } = request.into_inner();
        let subject = match subject {
            Some(Subject::Flow(flow)) => Ok(Flow::try_from(flow)?),
            Some(Subject::Pid(pid)) => Err(pid),
            None => {
                return Err(Status::invalid_argument(
                    "subject is missing: give a flow or a pid",
                ));
            }
        };
        let (ladder, hashes) = (Arc::clone(&self.ladder), Arc::clone(&self.hashes));
        let looked = tokio::task::spawn_blocking(move || {
            match subject {
                Ok(flow) => thorough(&ladder, &flow),
                Err(pid) => ladder.processes.get(pid).ok_or(Miss::NoProcess),
            }
            .inspect(|known| {
                if hash {
                    add_hash(known, &hashes);
                }
            })
            .map(|known| wire_process(&known))
        });
        let looked = looked
            .await
            .map_err(|error| Status::internal(format!("the look-up ended early: {error}")))?;
        Ok(Response::new(match looked {
            Ok(process) => LookupReply {
                process: Some(process),
                miss: WireMiss::Unspecified.into(),
            },
            Err(miss) => LookupReply {
                process: None,
                miss: wire_miss(miss).into(),
            },
        }))
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Ok(Response::new(self.status.snapshot()))
    }
}

fn thorough(ladder: &Ladder, flow: &Flow) -> Result<Arc<Known>, Miss> {
    match ladder.quick(flow, None) {
        Quick::Done(answer) => answer.known,
        Quick::Search(search) => ladder.search(flow, None, search).known,
    }
}

/// Reads the whole executable, the first time that it is seen.
fn add_hash(known: &Known, hashes: &Hashes) {
    if known.hash.get().is_none()
        && let Ok(hash) = hashes.of(known.process.pid)
        && known.is_current()
    {
        // another search may have been faster: it read the same file
        let _ = known.hash.set(hash);
    }
}

fn wire_process(known: &Known) -> proto::flow::v1::Process {
    let mut process = proto::flow::v1::Process::from(&*known.process);
    if let (Some(executable), Some(hash)) = (&mut process.executable, known.hash.get()) {
        executable.sha256 = hash.to_vec();
    }
    process
}

const fn wire_miss(miss: Miss) -> WireMiss {
    match miss {
        Miss::NoSocket => WireMiss::NoSocket,
        Miss::NoProcess => WireMiss::NoProcess,
    }
}

/// One caller's stream.
struct Conversation {
    ladder: Arc<Ladder>,
    searches: Arc<Semaphore>,
    hashes: Arc<Hashes>,
    told: Told,
    /// Searches that were begun or wait.
    beside_now: usize,
    /// Of them, those that read tables.
    tables_now: usize,
    /// Of the questions that are traced, by request.
    traced: HashMap<u64, Span>,
    /// How long it took to answer, or to find that there must be a search.
    quick: Histogram,
    /// How long searches took, with the wait for their turn.
    search: Histogram,
    replies: mpsc::UnboundedSender<Result<ResolveReply, Status>>,
    found: mpsc::UnboundedSender<(u64, Search, Option<Answer>)>,
}

impl Conversation {
    /// Until the caller hangs up.
    async fn run(
        mut self,
        mut requests: Streaming<ResolveRequest>,
        mut searched: mpsc::UnboundedReceiver<(u64, Search, Option<Answer>)>,
    ) {
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        let began = Instant::now();
                        self.take(request);
                        self.quick.record(began.elapsed());
                    }
                    Some(Err(_)) | None => return,
                },
                Some((request_id, search, answer)) = searched.recv() => {
                    self.beside_now -= 1;
                    self.tables_now -= usize::from(search == Search::Socket);
                    self.say(request_id, answer);
                }
            }
        }
    }

    fn take(&mut self, request: ResolveRequest) {
        let request_id = request.request_id;
        if !request.traceparent.is_empty() {
            let tracer = telemetry::tracer();
            let span = tracer.and_then(|tracer| tracer.go_on("resolve", &request.traceparent));
            self.traced.extend(span.map(|span| (request_id, span)));
        }
        let flow = match request.flow.map(Flow::try_from) {
            Some(Ok(flow)) => flow,
            // the caller's mistake must not leave its packet waiting
            Some(Err(_)) | None => {
                let answer = Answer {
                    known: Err(Miss::NoSocket),
                    socket: None,
                    cgroup: None,
                };
                return self.say(request_id, Some(answer));
            }
        };
        match self.ladder.quick(&flow, request.uid) {
            Quick::Done(Answer {
                known: Ok(known),
                socket,
                cgroup,
            }) if request.hash && known.hash.get().is_none() => {
                let hashes = Arc::clone(&self.hashes);
                self.beside(request_id, Search::Holder, move || {
                    add_hash(&known, &hashes);
                    Answer {
                        known: Ok(known),
                        socket,
                        cgroup,
                    }
                });
            }
            Quick::Done(answer) => self.say(request_id, Some(answer)),
            Quick::Search(search) => {
                let (ladder, hashes) = (Arc::clone(&self.ladder), Arc::clone(&self.hashes));
                self.beside(request_id, search, move || {
                    let answer = ladder.search(&flow, request.uid, search);
                    if let (true, Ok(known)) = (request.hash, &answer.known) {
                        add_hash(known, &hashes);
                    }
                    answer
                });
            }
        }
    }

    /// Finds the answer on another thread, unless too many wait for that already.
    fn beside(&mut self, request_id: u64, search: Search, find: impl FnOnce() -> Answer + Send + 'static) {
        let tables = search == Search::Socket;
        if self.beside_now >= MOST_SEARCHES || (tables && self.tables_now >= MOST_TABLE_SEARCHES) {
            return self.say(request_id, None);
        }
        self.beside_now += 1;
        self.tables_now += usize::from(tables);
        if let Some(span) = self.traced.get_mut(&request_id) {
            let search = if tables { "tables" } else { "holders" };
            span.set("portmaster.search", search);
        }
        let miss = WireMiss::Searching.into();
        let _ = self.replies.send(Ok(ResolveReply {
            request_id,
            miss,
            ..ResolveReply::default()
        }));
        let (searches, found) = (Arc::clone(&self.searches), self.found.clone());
        let (took, began) = (self.search.clone(), Instant::now());
        tokio::spawn(async move {
            let searched = async {
                let turn = searches.acquire_owned().await.ok()?;
                let find = move || (find(), turn);
                tokio::task::spawn_blocking(find)
                    .await
                    .ok()
                    .map(|(answer, _turn)| answer)
            };
            let answer = tokio::time::timeout(SEARCH_DEADLINE, searched)
                .await
                .ok()
                .flatten();
            took.record(began.elapsed());
            // the caller may have hung up
            let _ = found.send((request_id, search, answer));
        });
    }

    /// `None`: it took too long.
    fn say(&mut self, request_id: u64, answer: Option<Answer>) {
        let mut reply = ResolveReply {
            request_id,
            ..ResolveReply::default()
        };
        let socket = answer.as_ref().and_then(|answer| answer.socket);
        reply.socket_uid = socket.map(|socket| socket.uid);
        let cgroup = answer.as_ref().and_then(|answer| answer.cgroup.as_deref());
        reply.socket_cgroup = cgroup.map(Into::into);
        match answer.map(|answer| answer.known) {
            Some(Ok(known)) => {
                reply.process_key = known.serial;
                if self.told.is_new(&known) {
                    reply.process = Some(wire_process(&known));
                    reply.ended = self.told.sweep();
                }
            }
            Some(Err(miss)) => reply.miss = wire_miss(miss).into(),
            None => reply.miss = WireMiss::Timeout.into(),
        }
        if let Some(span) = self.traced.remove(&request_id) {
            answer_traced(span, &reply);
        }
        // the caller may have hung up: the loop ends then
        let _ = self.replies.send(Ok(reply));
    }
}

/// Its span ends with the answer. Which process it is, the caller's span says where the owner lets it.
fn answer_traced(mut span: Span, reply: &ResolveReply) {
    let answer = match reply.miss() {
        WireMiss::Unspecified => "process",
        WireMiss::NoSocket => "no-socket",
        WireMiss::NoProcess => "no-process",
        WireMiss::Timeout | WireMiss::Searching => "timeout",
    };
    span.set("portmaster.answer", answer);
}

/// Which processes this stream has heard of.
#[derive(Default)]
struct Told {
    /// By serial; true: with its hash.
    processes: HashMap<u64, (Arc<Known>, bool)>,
    since_sweep: usize,
}

impl Told {
    fn is_new(&mut self, known: &Arc<Known>) -> bool {
        let hashed = known.hash.get().is_some();
        let told = self.processes.insert(known.serial, (Arc::clone(known), hashed));
        told.is_none_or(|(_, told_with_hash)| hashed && !told_with_hash)
    }

    /// Those that ended, every now and then.
    fn sweep(&mut self) -> Vec<u64> {
        self.since_sweep += 1;
        if self.since_sweep < SWEEP_EVERY {
            return Vec::new();
        }
        self.since_sweep = 0;
        let ended = self.processes.extract_if(|_, (known, _)| !known.is_current());
        ended.map(|(serial, _)| serial).collect()
    }
}
