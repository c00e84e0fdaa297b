//! `System` and `Tokens`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use api::v1::{
    Caller as WireCaller, CreateTokenReply, CreateTokenRequest, GetPauseRequest, GetVersionRequest,
    ListServicesReply, ListServicesRequest, ListTokensReply, ListTokensRequest, PauseRequest, PauseState,
    RestartServiceReply, RestartServiceRequest, ResumeRequest, RevokeTokenReply, RevokeTokenRequest,
    Service as WireService, Version, WhoAmIRequest, system_server::System,
    tokens_server::Tokens as TokensRpc,
};
use daemon::{grpc, status::Status as OwnStatus, systemd};
use futures_util::future::join_all;
use proto::{
    common::v1::ServiceState,
    policy::v1::{self as policy, policy_client::PolicyClient},
};
use tonic::{Request, Response, Status, transport::Channel};

use super::{about, caller, passed_on};
use crate::tokens::{self, Tokens};

/// A service that has not said by then how it is does not work.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ways to the services of the mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// `interceptor`
    pub interceptor: Channel,
    /// `process-resolver`
    pub resolver: Channel,
    /// `policy`
    pub policy: Channel,
    /// `dns`
    pub dns: Channel,
    /// `gate17-entry`
    pub gate17: Channel,
}

/// Whose state is asked, in the order in which it is shown.
const SERVICES: [&str; 6] = [
    "interceptor",
    "process-resolver",
    "policy",
    "dns",
    "gate17-entry",
    "api-gateway",
];

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// To the others.
    pub mesh: Mesh,
    /// Our own.
    pub status: OwnStatus,
    /// That hold.
    pub tokens: Arc<Tokens>,
}

impl Service {
    async fn state(&self, name: &str) -> Result<ServiceState, Status> {
        let mesh = &self.mesh;
        let channel = match name {
            "interceptor" => &mesh.interceptor,
            "process-resolver" => &mesh.resolver,
            "policy" => &mesh.policy,
            "dns" => &mesh.dns,
            "gate17-entry" => &mesh.gate17,
            // our own need not be asked for
            _ => return Ok(self.status.snapshot()),
        };
        grpc::state(name, channel.clone()).await
    }

    async fn told(&self, name: &str) -> WireService {
        let asked = tokio::time::timeout(PATIENCE, self.state(name)).await;
        let (state, problem) = match asked {
            Ok(Ok(state)) => (Some(state), String::new()),
            Ok(Err(status)) => (None, status.message().to_owned()),
            Err(_) => (None, format!("no answer within {} s", PATIENCE.as_secs())),
        };
        WireService {
            name: name.to_owned(),
            state,
            problem,
        }
    }

    /// How each is.
    pub async fn services(&self) -> Vec<WireService> {
        join_all(SERVICES.map(|name| self.told(name))).await
    }

    /// Whether all is let pass for a while.
    ///
    /// # Errors
    /// `UNAVAILABLE` where policy does not answer.
    pub async fn paused(&self) -> Result<PauseState, Status> {
        let reply = self.policy().get_pause(policy::GetPauseRequest {}).await;
        Ok(pause(reply.map_err(passed_on("policy"))?.into_inner().pause))
    }

    fn policy(&self) -> PolicyClient<Channel> {
        PolicyClient::new(self.mesh.policy.clone())
    }
}

#[tonic::async_trait]
impl System for Service {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<Version>, Status> {
        Ok(Response::new(Version {
            version: self.status.about().version.to_owned(),
            packages: vec!["portmaster.api.v1".to_owned()],
        }))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WireCaller>, Status> {
        let caller = caller(&request)?;
        let process = caller.peer.process(&self.mesh.resolver).await;
        let executable = process.and_then(|process| process.executable.as_ref());
        Ok(Response::new(WireCaller {
            pid: process.map(|process| process.pid),
            uid: caller.peer.uid,
            executable: executable.map(|file| file.path.clone()).unwrap_or_default(),
            token: caller
                .token
                .as_ref()
                .map(|(name, _)| name.clone())
                .unwrap_or_default(),
            access: caller.level.into(),
        }))
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesReply>, Status> {
        Ok(Response::new(ListServicesReply {
            services: self.services().await,
        }))
    }

    async fn restart_service(
        &self,
        request: Request<RestartServiceRequest>,
    ) -> Result<Response<RestartServiceReply>, Status> {
        about(&request, &request.get_ref().name);
        let name = request.into_inner().name;
        if !SERVICES.contains(&name.as_str()) {
            let names = SERVICES.join(", ");
            return Err(Status::invalid_argument(format!(
                "no service {name:?}; there are {names}"
            )));
        }
        let unit = format!("portmaster-{name}.service");
        match systemd::restart(&unit).await {
            Ok(()) => Ok(Response::new(RestartServiceReply {})),
            Err(error) => Err(Status::failed_precondition(format!(
                "systemd does not restart {unit}: {error}; as root: systemctl restart {unit}"
            ))),
        }
    }

    async fn get_pause(&self, _: Request<GetPauseRequest>) -> Result<Response<PauseState>, Status> {
        Ok(Response::new(self.paused().await?))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseState>, Status> {
        let seconds = request.get_ref().seconds;
        let reply = self.policy().pause(policy::PauseRequest { seconds }).await;
        let reply = reply.map_err(passed_on("policy"))?.into_inner();
        Ok(Response::new(pause(reply.pause)))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<PauseState>, Status> {
        let reply = self.policy().resume(policy::ResumeRequest {}).await;
        reply.map_err(passed_on("policy"))?;
        Ok(Response::new(pause(None)))
    }
}

fn pause(from: Option<policy::Pause>) -> PauseState {
    PauseState {
        until: from.and_then(|pause| pause.until),
    }
}

#[tonic::async_trait]
impl TokensRpc for Service {
    async fn create(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenReply>, Status> {
        about(&request, &request.get_ref().name);
        let asked = request.into_inner();
        let tokens = Arc::clone(&self.tokens);
        let made = tokio::task::spawn_blocking(move || {
            tokens.create(&asked.name, asked.scope(), asked.ttl_seconds, SystemTime::now())
        });
        let made = made.await.map_err(|error| Status::internal(error.to_string()))?;
        let (token, secret) = made.map_err(|error| refusal(&error))?;
        tracing::info!(target: "audit", token = token.name, "token made");
        Ok(Response::new(CreateTokenReply {
            token: Some(token),
            secret,
        }))
    }

    async fn list(&self, _: Request<ListTokensRequest>) -> Result<Response<ListTokensReply>, Status> {
        Ok(Response::new(ListTokensReply {
            tokens: self.tokens.list(SystemTime::now()),
        }))
    }

    async fn revoke(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenReply>, Status> {
        about(&request, &request.get_ref().name);
        let name = request.into_inner().name;
        let (tokens, revoked) = (Arc::clone(&self.tokens), name.clone());
        let done = tokio::task::spawn_blocking(move || tokens.revoke(&revoked)).await;
        done.map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| refusal(&error))?;
        tracing::info!(target: "audit", token = name, "token revoked");
        Ok(Response::new(RevokeTokenReply {}))
    }
}

fn refusal(error: &tokens::Error) -> Status {
    let text = error.to_string();
    match error {
        tokens::Error::Name(_) | tokens::Error::Scope | tokens::Error::Ttl(_) => {
            Status::invalid_argument(text)
        }
        tokens::Error::Exists(_) => Status::already_exists(text),
        tokens::Error::Unknown(_) => Status::not_found(text),
        tokens::Error::TooMany => Status::resource_exhausted(text),
        tokens::Error::File { .. } => Status::internal(text),
    }
}
