//! `Gate17`: of the entry, whose messages are the public ones.

use std::{pin::Pin, time::SystemTime};

use api::v1::gate17_server::Gate17;
use futures_util::{Stream, stream};
use proto::gate17::v1::{
    CircuitEvent, CloseCircuitReply, CloseCircuitRequest, GetStatusReply, GetStatusRequest,
    ListCircuitsReply, ListCircuitsRequest, ListNodesReply, ListNodesRequest, PingReply, PingRequest,
    RouteReply, RouteRequest, WatchCircuitsRequest, gate17_entry_client::Gate17EntryClient,
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::{HEARTBEAT, passed_on};

const BEHIND: &str = "gate17-entry";

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// To it.
    pub channel: Channel,
}

impl Service {
    fn client(&self) -> Gate17EntryClient<Channel> {
        Gate17EntryClient::new(self.channel.clone())
    }
}

/// A client, and what it hears.
struct Following {
    messages: Streaming<CircuitEvent>,
    /// Behind the last message that said one.
    event_id: String,
}

impl Following {
    async fn next(&mut self) -> Option<Result<CircuitEvent, Status>> {
        let message = match tokio::time::timeout(HEARTBEAT, self.messages.message()).await {
            Err(_) => {
                return Some(Ok(CircuitEvent {
                    time: Some(SystemTime::now().into()),
                    event_id: self.event_id.clone(),
                    ..CircuitEvent::default()
                }));
            }
            Ok(Ok(message)) => message?,
            Ok(Err(status)) => return Some(Err(passed_on(BEHIND)(status))),
        };
        if !message.event_id.is_empty() {
            self.event_id.clone_from(&message.event_id);
        }
        Some(Ok(message))
    }
}

#[tonic::async_trait]
impl Gate17 for Service {
    type WatchCircuitsStream = Pin<Box<dyn Stream<Item = Result<CircuitEvent, Status>> + Send>>;

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusReply>, Status> {
        let reply = self.client().get_status(request.into_inner()).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn list_circuits(
        &self,
        request: Request<ListCircuitsRequest>,
    ) -> Result<Response<ListCircuitsReply>, Status> {
        let reply = self.client().list_circuits(request.into_inner()).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn watch_circuits(
        &self,
        request: Request<WatchCircuitsRequest>,
    ) -> Result<Response<Self::WatchCircuitsStream>, Status> {
        let asked = request.get_ref().resume_after.clone();
        let messages = self
            .client()
            .watch_circuits(request.into_inner())
            .await
            .map_err(passed_on(BEHIND))?;
        let following = Following {
            messages: messages.into_inner(),
            event_id: asked,
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

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesReply>, Status> {
        let reply = self.client().list_nodes(request.into_inner()).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn route(&self, request: Request<RouteRequest>) -> Result<Response<RouteReply>, Status> {
        let reply = self.client().route(request.into_inner()).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        let reply = self.client().ping(request.into_inner()).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn close_circuit(
        &self,
        request: Request<CloseCircuitRequest>,
    ) -> Result<Response<CloseCircuitReply>, Status> {
        let reply = self.client().close_circuit(request.into_inner()).await;
        reply.map_err(passed_on(BEHIND))
    }
}
