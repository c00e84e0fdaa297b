//! `Gateway`: for the mesh, at our Unix socket.

use daemon::status::Status as OwnStatus;
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    gateway::v1::gateway_server::Gateway,
};
use tonic::{Request, Response, Status};

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// Our own.
    pub status: OwnStatus,
}

#[tonic::async_trait]
impl Gateway for Service {
    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Ok(Response::new(self.status.snapshot()))
    }
}
