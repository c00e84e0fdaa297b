//! `Connections`: from the hub alone.

mod views;
mod watch;

use std::pin::Pin;

use api::v1::{
    CloseConnectionReply, CloseConnectionRequest, Connection, GetConnectionRequest, ListConnectionsReply,
    ListConnectionsRequest, WatchConnectionsReply, WatchConnectionsRequest, connections_server::Connections,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use prost_reflect::MessageDescriptor;
use proto::{
    flow::v1 as flow,
    interceptor::v1::{self as interceptor, interceptor_client::InterceptorClient},
};
use tonic::{Request, Response, Status, transport::Channel};

use super::{
    about,
    filter::Filter,
    passed_on,
    policy::{octets, port},
};
use crate::{hub::Hub, mask::Mask};
use views::{Views, message_of};
pub use watch::Watching;

const PAGE: usize = 1000;
const LONGEST_PAGE: usize = 10_000;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// Who knows.
    hub: Hub,
    /// Of `Connection`.
    descriptor: MessageDescriptor,
    /// Who closes them.
    interceptor: Channel,
    /// What those who watch want.
    views: Views,
}

impl Service {
    /// `hub`: who knows them; `descriptor`: of `Connection`; `interceptor`: who closes them.
    pub fn new(hub: Hub, descriptor: MessageDescriptor, interceptor: Channel) -> Self {
        Self {
            hub,
            descriptor,
            interceptor,
            views: Views::default(),
        }
    }
}

#[tonic::async_trait]
impl Connections for Service {
    async fn list(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsReply>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(request.filter)?;
        let mask = Mask::new(request.read_mask, &self.descriptor)?;
        let after = match request.page_token.as_str() {
            "" => 0,
            text => text
                .parse()
                .map_err(|_| Status::invalid_argument("page_token: not one of ours; begin without"))?,
        };
        let size = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            size => size.min(LONGEST_PAGE),
        };
        let live = self.hub.live(after);
        let mut fitting = live.iter().filter(|(_, connection)| filter.fits(connection));
        let page: Vec<_> = fitting.by_ref().take(size).collect();
        let next_page_token = match (fitting.next(), page.last()) {
            (Some(_), Some((last, _))) => last.to_string(),
            _ => String::new(),
        };
        let connections = page
            .into_iter()
            .map(|(_, connection)| Connection::decode(mask.apply(connection)))
            .collect::<Result<_, _>>();
        Ok(Response::new(ListConnectionsReply {
            connections: connections.map_err(|error| Status::internal(error.to_string()))?,
            next_page_token,
        }))
    }

    async fn get(&self, request: Request<GetConnectionRequest>) -> Result<Response<Connection>, Status> {
        let id = request.get_ref().id;
        let found = self.hub.get(id);
        let found = found.ok_or_else(|| Status::not_found(format!("no live connection has the id {id}")))?;
        Ok(Response::new(found))
    }

    async fn close(
        &self,
        request: Request<CloseConnectionRequest>,
    ) -> Result<Response<CloseConnectionReply>, Status> {
        let flow = self.flow(request.get_ref())?;
        let asked = request.get_ref();
        let object = match asked.id {
            0 => format!("protocol {} to port {}", flow.protocol, flow.remote_port),
            id => format!("connection {id}"),
        };
        about(&request, &object);
        let asked = interceptor::CloseConnectionRequest { flow: Some(flow) };
        let reply = InterceptorClient::new(self.interceptor.clone())
            .close_connection(asked)
            .await;
        let closed = reply.map_err(passed_on("interceptor"))?.into_inner();
        Ok(Response::new(CloseConnectionReply {
            sockets: closed.sockets,
            forgotten: closed.forgotten,
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchConnectionsReply, Status>> + Send>>;

    /// As whoever has no [`Watching`] before this server would have it.
    async fn watch(
        &self,
        request: Request<WatchConnectionsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let frames = self.frames(request.into_inner())?;
        let read = |frame: Bytes| {
            WatchConnectionsReply::decode(message_of(&frame))
                .map_err(|error| Status::internal(error.to_string()))
        };
        Ok(Response::new(Box::pin(frames.map(read))))
    }
}

impl Service {
    /// Which connection is meant.
    fn flow(&self, asked: &CloseConnectionRequest) -> Result<flow::Flow, Status> {
        let (direction, protocol, local, remote) = if asked.id == 0 {
            let protocol = if asked.protocol == 0 { 6 } else { asked.protocol };
            (
                flow::Direction::Outgoing.into(),
                protocol,
                asked.local.clone(),
                asked.remote.clone(),
            )
        } else {
            let found = self.hub.get(asked.id);
            let found = found
                .ok_or_else(|| Status::not_found(format!("no live connection has the id {}", asked.id)))?;
            (found.direction, found.protocol, found.local, found.remote)
        };
        let (Some(local), Some(remote)) = (local, remote) else {
            return Err(Status::invalid_argument(
                "give the id of a live connection, or both its ends: local and remote",
            ));
        };
        Ok(flow::Flow {
            direction,
            protocol,
            local_address: octets("local.address", &local.address)?,
            local_port: port("local", &local)?,
            remote_address: octets("remote.address", &remote.address)?,
            remote_port: port("remote", &remote)?,
        })
    }
}
