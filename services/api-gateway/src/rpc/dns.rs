//! `Dns`: of the DNS service.

use std::pin::Pin;

use api::v1::{
    ExplainNameReply, ExplainNameRequest, FlushCacheRequest, ListBlockListsRequest, ListCacheRequest,
    ListUpstreamsRequest, WatchDnsQueriesReply, WatchDnsQueriesRequest, dns_server::Dns,
};
use futures_util::{Stream, StreamExt as _, stream};
use proto::{
    dns::v1::{self as dns, dns_client::DnsClient},
    place::Place,
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::{HEARTBEAT, passed_on};
use crate::wire;

const BEHIND: &str = "dns";

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// To it.
    pub channel: Channel,
}

impl Service {
    fn client(&self) -> DnsClient<Channel> {
        DnsClient::new(self.channel.clone())
    }
}

/// A client, and what it hears.
struct Following {
    messages: Streaming<dns::QueryEvents>,
    /// Behind the last message.
    event_id: String,
}

impl Following {
    async fn next(&mut self) -> Option<Result<WatchDnsQueriesReply, Status>> {
        let message = match tokio::time::timeout(HEARTBEAT, self.messages.message()).await {
            Err(_) => dns::QueryEvents::default(),
            Ok(Ok(message)) => message?,
            Ok(Err(status)) => return Some(Err(passed_on(BEHIND)(status))),
        };
        if let Some(dns::QueryPosition { numbering, sequence }) = message.position {
            self.event_id = Place { numbering, sequence }.text();
        }
        Some(Ok(WatchDnsQueriesReply {
            queries: message.queries.into_iter().map(wire::query).collect(),
            dropped: message.dropped,
            event_id: self.event_id.clone(),
        }))
    }
}

#[tonic::async_trait]
impl Dns for Service {
    type WatchQueriesStream = Pin<Box<dyn Stream<Item = Result<WatchDnsQueriesReply, Status>> + Send>>;
    type ListCacheStream = Pin<Box<dyn Stream<Item = Result<dns::ListCacheReply, Status>> + Send>>;

    async fn watch_queries(
        &self,
        request: Request<WatchDnsQueriesRequest>,
    ) -> Result<Response<Self::WatchQueriesStream>, Status> {
        let asked = request.into_inner();
        let resume_after = match asked.resume_after.as_str() {
            "" => None,
            text => Some(Place::parse(text).ok_or_else(|| {
                Status::invalid_argument("resume_after: not an event_id of ours; begin without")
            })?),
        };
        let request = dns::WatchQueriesRequest {
            include_recent: asked.include_recent,
            resume_after: resume_after.map(|place| dns::QueryPosition {
                numbering: place.numbering,
                sequence: place.sequence,
            }),
            until_now: false,
        };
        let messages = self
            .client()
            .watch_queries(request)
            .await
            .map_err(passed_on(BEHIND))?;
        let following = Following {
            messages: messages.into_inner(),
            event_id: String::new(),
        };
        let messages = stream::unfold(Some(following), async |following| {
            let mut following = following?;
            let said = following.next().await?;
            // an error is the last
            let goes_on = said.is_ok();
            Some((said, goes_on.then_some(following)))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn explain(
        &self,
        request: Request<ExplainNameRequest>,
    ) -> Result<Response<ExplainNameReply>, Status> {
        let asked = request.into_inner();
        let request = dns::ExplainRequest {
            name: asked.name,
            kind: asked.record_type,
            profile: asked.profile,
        };
        let reply = self
            .client()
            .explain(request)
            .await
            .map_err(passed_on(BEHIND))?
            .into_inner();
        Ok(Response::new(ExplainNameReply {
            decision: reply.decision.map(wire::decision),
            list: reply.list,
            steps: reply.steps,
        }))
    }

    async fn list_cache(
        &self,
        request: Request<ListCacheRequest>,
    ) -> Result<Response<Self::ListCacheStream>, Status> {
        let request = dns::ListCacheRequest {
            zone: request.into_inner().zone,
        };
        let messages = self
            .client()
            .list_cache(request)
            .await
            .map_err(passed_on(BEHIND))?;
        Ok(Response::new(Box::pin(
            messages
                .into_inner()
                .map(|message| message.map_err(passed_on(BEHIND))),
        )))
    }

    async fn flush_cache(
        &self,
        request: Request<FlushCacheRequest>,
    ) -> Result<Response<dns::FlushReply>, Status> {
        let FlushCacheRequest { name, zone } = request.into_inner();
        let reply = self.client().flush(dns::FlushRequest { name, zone }).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn list_upstreams(
        &self,
        _: Request<ListUpstreamsRequest>,
    ) -> Result<Response<dns::ListUpstreamsReply>, Status> {
        let reply = self.client().list_upstreams(dns::ListUpstreamsRequest {}).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn list_block_lists(
        &self,
        _: Request<ListBlockListsRequest>,
    ) -> Result<Response<dns::ListListsReply>, Status> {
        let reply = self.client().list_lists(dns::ListListsRequest {}).await;
        reply.map_err(passed_on(BEHIND))
    }
}
