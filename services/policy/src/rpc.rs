//! The gRPC service: translates, no more.

mod files;

use std::{path::PathBuf, pin::Pin, sync::Arc};

use daemon::{grpc, status::Status as ServiceStatus};
use futures_util::{Stream, StreamExt as _, future::ready};
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    policy::v1::{
        ChangeReply, ChangeRequest, ExplainReply, ExplainRequest, GetPauseReply, GetPauseRequest, GetRequest,
        ListFilesReply, ListFilesRequest, ListRefusedReply, ListRefusedRequest, PauseReply, PauseRequest,
        ResumeReply, ResumeRequest, Snapshot, WatchRequest, policy_server::Policy,
    },
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use verdict::{Flow, Process};

use crate::{
    change::Change,
    explain::explain,
    in_force::{Board, InForce},
    pause,
};

/// Serves what the board and the status know.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) board: Board,
    pub(crate) status: ServiceStatus,
    /// `profiles.d`.
    pub(crate) folder: PathBuf,
}

#[tonic::async_trait]
impl Policy for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Snapshot, Status>> + Send>>;

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<Snapshot>, Status> {
        Ok(Response::new(self.board.in_force.borrow().wire.clone()))
    }

    /// A follower that is slow gets the newest one, not each.
    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let has = request.get_ref().have_version;
        let snapshots = WatchStream::new(self.board.in_force.clone());
        let news = snapshots.skip_while(move |snapshot: &Arc<InForce>| ready(snapshot.wire.version == has));
        Ok(Response::new(Box::pin(
            news.map(|snapshot| Ok(snapshot.wire.clone())),
        )))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainReply>, Status> {
        let ExplainRequest {
            process,
            flow,
            domain,
        } = request.into_inner();
        let flow = flow.ok_or_else(|| Status::invalid_argument("flow is missing"))?;
        let (flow, process) = (Flow::try_from(flow)?, process.map(Process::try_from).transpose()?);
        let in_force = Arc::clone(&self.board.in_force.borrow());
        let explanation = explain(&in_force, process.as_ref(), flow, &domain);
        Ok(Response::new(ExplainReply {
            decision: Some((&explanation.decision).into()),
            policy_version: in_force.compiled.version(),
            steps: explanation.steps,
        }))
    }

    async fn list_refused(
        &self,
        _: Request<ListRefusedRequest>,
    ) -> Result<Response<ListRefusedReply>, Status> {
        Ok(Response::new(ListRefusedReply {
            files: self.board.refused_files(),
        }))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseReply>, Status> {
        root_only(&request)?;
        let pause = self.board.pause.pause(request.get_ref().seconds).await;
        Ok(Response::new(PauseReply {
            pause: Some(pause.map_err(|error| refusal(&error))?.into()),
        }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeReply>, Status> {
        root_only(&request)?;
        let was_paused = self.board.pause.resume().await.map_err(|error| refusal(&error))?;
        Ok(Response::new(ResumeReply { was_paused }))
    }

    async fn get_pause(&self, _: Request<GetPauseRequest>) -> Result<Response<GetPauseReply>, Status> {
        Ok(Response::new(GetPauseReply {
            pause: self.board.paused().map(Into::into),
        }))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesReply>, Status> {
        let (id, folder) = (request.into_inner().id, self.folder.clone());
        let (in_force, refused) = (
            Arc::clone(&self.board.in_force.borrow()),
            self.board.refused_files(),
        );
        let listed = tokio::task::spawn_blocking(move || files::list(&folder, &id, &in_force, &refused));
        listed
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map(Response::new)
    }

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<ChangeReply>, Status> {
        grpc::root_or_gateway(&request, "only root may change profiles here; others ask the API")?;
        let outcome = self.board.change(Change::try_from(request.into_inner())?).await;
        let outcome = outcome.map_err(|error| files::refusal(&error))?;
        Ok(Response::new(files::changed(outcome)))
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Ok(Response::new(self.status.snapshot()))
    }
}

/// Group `portmaster` may look; to let through what the owner refuses takes root.
fn root_only<T>(request: &Request<T>) -> Result<(), Status> {
    grpc::root_or_gateway(
        request,
        "only root may pause the firewall or end a pause; others ask on the desktop bus",
    )
}

fn refusal(error: &pause::Error) -> Status {
    match error {
        pause::Error::Length(_) => Status::invalid_argument(error.to_string()),
        pause::Error::Stopping => Status::unavailable(error.to_string()),
        pause::Error::Refused(_) => Status::failed_precondition(error.to_string()),
    }
}
