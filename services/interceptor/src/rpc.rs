//! The gRPC service: translates, no more.

use std::pin::Pin;

use daemon::{grpc, status::Status as ServiceStatus};
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    interceptor::v1::{
        CloseConnectionReply, CloseConnectionRequest, ConnectionEvents, ListConnectionsReply,
        ListConnectionsRequest, WatchEventsRequest, interceptor_server::Interceptor,
    },
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use verdict::Flow;

use crate::{
    closing::{Closed, Closer},
    hub::{BATCH, Hub},
    wire,
};

/// Serves what the hub and the status know.
#[derive(Debug)]
pub struct Service {
    /// Events and live connections.
    pub hub: Hub,
    /// Health and counters.
    pub status: ServiceStatus,
    /// Ends connections.
    pub closer: Closer,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Interceptor for Service {
    type WatchEventsStream = Replies<ConnectionEvents>;
    type ListConnectionsStream = Replies<ListConnectionsReply>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let WatchEventsRequest {
            include_live,
            resume_after,
        } = request.into_inner();
        let batches = self.hub.subscribe(include_live, resume_after);
        Ok(Response::new(Box::pin(ReceiverStream::new(batches).map(Ok))))
    }

    async fn list_connections(
        &self,
        _: Request<ListConnectionsRequest>,
    ) -> Result<Response<Self::ListConnectionsStream>, Status> {
        let live = self.hub.live();
        let replies: Vec<_> = live
            .chunks(BATCH)
            .map(|chunk| {
                Ok(ListConnectionsReply {
                    connections: chunk.iter().map(wire::connection).collect(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn close_connection(
        &self,
        request: Request<CloseConnectionRequest>,
    ) -> Result<Response<CloseConnectionReply>, Status> {
        grpc::root_or_gateway(&request, "only root may end connections; others ask the API")?;
        let flow = request.into_inner().flow;
        let flow = Flow::try_from(flow.ok_or_else(|| Status::invalid_argument("flow is missing"))?)?;
        let closed = self.closer.close(&flow);
        let Closed { sockets, forgotten } = closed.map_err(|error| {
            Status::failed_precondition(format!("the kernel does not end the connection: {error}"))
        })?;
        if sockets == 0 && !forgotten {
            return Err(Status::not_found("there is no such connection"));
        }
        Ok(Response::new(CloseConnectionReply { sockets, forgotten }))
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Ok(Response::new(self.status.snapshot()))
    }
}
