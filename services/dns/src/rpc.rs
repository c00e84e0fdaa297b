//! The gRPC service: translates, no more.

use std::{pin::Pin, sync::Arc, time::Duration};

use daemon::{grpc, status::Status as ServiceStatus};
use dns_core::Name;
use futures_util::FutureExt as _;
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    dns::v1::{
        CacheEntry, ExplainReply, ExplainRequest, FlushReply, FlushRequest, ListCacheReply, ListCacheRequest,
        ListListsReply, ListListsRequest, ListUpstreamsReply, ListUpstreamsRequest, OpenNetworkReply,
        OpenNetworkRequest, Opening as WireOpening, QueryEvents, Upstream, WatchQueriesRequest,
        dns_server::Dns,
    },
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use verdict::policy::ProfileRef;

use crate::{
    filter,
    judge::Judge,
    kept::Kept,
    log::{Follower, Place, Start},
    route::Opening,
    upstream::Standing,
    wire,
};

/// Entries in one message.
const BATCH: usize = 512;
/// A (RFC 1035).
const ADDRESS: u16 = 1;
/// Nobody needs longer to log in at a portal.
const LONGEST_OPENING: Duration = Duration::from_secs(3600);

/// Serves what the judge knows.
#[derive(Debug)]
pub struct Service<L> {
    /// The judge.
    pub judge: Arc<Judge<L>>,
    /// What outlives the process.
    pub kept: Kept,
    /// Health and counters.
    pub status: ServiceStatus,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<L: filter::Lists + Told + Send + Sync + std::fmt::Debug + 'static> Dns for Service<L> {
    type WatchQueriesStream = Replies<QueryEvents>;
    type ListCacheStream = Replies<ListCacheReply>;

    async fn watch_queries(
        &self,
        request: Request<WatchQueriesRequest>,
    ) -> Result<Response<Self::WatchQueriesStream>, Status> {
        let request = request.into_inner();
        let start = match (request.resume_after, request.include_recent) {
            (Some(place), _) => Start::Behind(Place {
                numbering: place.numbering,
                sequence: place.sequence,
            }),
            (None, true) => Start::Recent,
            (None, false) => Start::Now,
        };
        if request.until_now {
            let known = known(self.judge.log.follow(start));
            return Ok(Response::new(Box::pin(tokio_stream::iter(known).map(Ok))));
        }
        let events = self.judge.log.subscribe(start, self.shutdown.clone());
        Ok(Response::new(Box::pin(ReceiverStream::new(events).map(Ok))))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainReply>, Status> {
        let ExplainRequest { name, kind, profile } = request.into_inner();
        let kind = match u16::try_from(kind) {
            Ok(0) => ADDRESS,
            Ok(kind) => kind,
            Err(_) => {
                return Err(Status::invalid_argument(format!(
                    "kind {kind} is no record type; give 1 to 65535"
                )));
            }
        };
        let name = parsed(&name)?;
        let reference = match profile.as_str() {
            "" => ProfileRef::GLOBAL,
            id => self.judge.policy.load().profile_named(id).ok_or_else(|| {
                Status::not_found(format!(
                    "no profile is called {id:?}: `portmaster rules` lists them"
                ))
            })?,
        };
        let (judged, steps) = self.judge.explain(reference, &name, kind);
        Ok(Response::new(ExplainReply {
            decision: Some((&judged.decision).into()),
            list: judged.list.as_deref().unwrap_or_default().to_owned(),
            steps,
        }))
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Result<Response<FlushReply>, Status> {
        let FlushRequest { name, zone } = request.into_inner();
        let entries = match (name.as_str(), zone) {
            ("", _) => self.judge.cache.clear(),
            (name, true) => self.judge.cache.forget_zone(&parsed(name)?),
            (name, false) => self.judge.cache.forget_name(&parsed(name)?),
        };
        self.kept.save_soon();
        Ok(Response::new(FlushReply {
            entries: entries.try_into().unwrap_or(u64::MAX),
        }))
    }

    async fn list_cache(
        &self,
        request: Request<ListCacheRequest>,
    ) -> Result<Response<Self::ListCacheStream>, Status> {
        let zone = parsed(&request.into_inner().zone)?;
        let mut entries = Vec::new();
        self.judge.cache.visit((self.judge.clock)(), |entry| {
            if entry.question.name.is_within(&zone) {
                entries.push(CacheEntry {
                    name: entry.question.name.to_string(),
                    kind: entry.question.kind.into(),
                    code: entry.answer.code().into(),
                    ttl: entry.left,
                    hits: entry.uses.into(),
                    octets: u32::try_from(entry.answer.cost()).unwrap_or(u32::MAX),
                });
            }
        });
        entries.sort_by(|one, other| (&one.name, one.kind).cmp(&(&other.name, other.kind)));
        let replies: Vec<_> = entries
            .chunks(BATCH)
            .map(|entries| {
                Ok(ListCacheReply {
                    entries: entries.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn list_upstreams(
        &self,
        _: Request<ListUpstreamsRequest>,
    ) -> Result<Response<ListUpstreamsReply>, Status> {
        let router = self.judge.lookup.router();
        let (sets, (opening, left)) = (router.states(), router.opening());
        let upstreams = sets.into_iter().flat_map(|set| {
            set.upstreams.into_iter().map(move |state| Upstream {
                name: state.label.to_string(),
                source: set.source.to_owned(),
                up: state.standing == Standing::Up,
                zones: set.zones.clone(),
                queries: state.asked,
                failures: state.failed,
                smoothed: state.rtt.and_then(|time| time.try_into().ok()),
            })
        });
        let opening = match opening {
            Opening::Closed => WireOpening::Closed,
            Opening::Checks => WireOpening::Checks,
            Opening::Everything => WireOpening::Everything,
        };
        Ok(Response::new(ListUpstreamsReply {
            upstreams: upstreams.collect(),
            opening: opening.into(),
            opening_left: left.and_then(|left| left.try_into().ok()),
        }))
    }

    async fn open_network(
        &self,
        request: Request<OpenNetworkRequest>,
    ) -> Result<Response<OpenNetworkReply>, Status> {
        grpc::root_or_gateway(
            &request,
            "only root may have all names asked in the clear, at the network's own servers",
        )?;
        let time = request.into_inner().time.unwrap_or_default();
        let time = Duration::try_from(time)
            .ok()
            .filter(|time| *time <= LONGEST_OPENING);
        let time = time.ok_or_else(|| Status::invalid_argument("give a time from 0 to 1 hour"))?;
        self.judge.lookup.router().open_for(time);
        Ok(Response::new(OpenNetworkReply {}))
    }

    async fn list_lists(&self, _: Request<ListListsRequest>) -> Result<Response<ListListsReply>, Status> {
        Ok(Response::new(ListListsReply {
            lists: self.judge.lists.load().told(),
        }))
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Ok(Response::new(self.status.snapshot()))
    }
}

/// What there is to read without waiting.
fn known(mut follower: Follower) -> Vec<QueryEvents> {
    let mut all = Vec::new();
    while let Some((first, queries, dropped)) = follower.next(BATCH).now_or_never() {
        let numbered = queries.iter().zip(first..);
        let queries = numbered.map(|(query, id)| wire::query(id, query)).collect();
        all.push(QueryEvents {
            queries,
            dropped,
            position: Some(wire::position(follower.place())),
        });
    }
    all
}

/// Lists that can be told of.
pub trait Told {
    /// Each of them.
    fn told(&self) -> Vec<proto::dns::v1::List>;
}

/// The root for an empty text.
fn parsed(name: &str) -> Result<Name, Status> {
    name.parse()
        .map_err(|error| Status::invalid_argument(format!("{name:?} is no name: {error}")))
}
