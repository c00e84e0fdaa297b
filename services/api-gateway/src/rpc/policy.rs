//! `Policy`: of the policy service.

use std::net::IpAddr;

use api::v1::{
    Endpoint, ExplainConnectionReply, ExplainConnectionRequest, GetPolicyRequest, ListRefusedFilesRequest,
    ValidateProfileReply, ValidateProfileRequest, policy_server::Policy,
};
use proto::{
    MAX_SNAPSHOT,
    flow::v1 as flow,
    policy::v1::{self as policy, policy_client::PolicyClient},
};
use tonic::{Request, Response, Status, transport::Channel};

use daemon::users;
use verdict::policy::file;

use super::passed_on;
use crate::wire;

const BEHIND: &str = "policy";

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// To it.
    pub channel: Channel,
}

impl Service {
    fn client(&self) -> PolicyClient<Channel> {
        PolicyClient::new(self.channel.clone()).max_decoding_message_size(MAX_SNAPSHOT)
    }
}

#[tonic::async_trait]
impl Policy for Service {
    async fn get(&self, _: Request<GetPolicyRequest>) -> Result<Response<policy::Snapshot>, Status> {
        let reply = self.client().get(policy::GetRequest {}).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn list_refused_files(
        &self,
        _: Request<ListRefusedFilesRequest>,
    ) -> Result<Response<policy::ListRefusedReply>, Status> {
        let reply = self.client().list_refused(policy::ListRefusedRequest {}).await;
        reply.map_err(passed_on(BEHIND))
    }

    async fn validate(
        &self,
        request: Request<ValidateProfileRequest>,
    ) -> Result<Response<ValidateProfileReply>, Status> {
        let ValidateProfileRequest { id, toml } = request.into_inner();
        let path = format!("{id}.toml");
        let parsed = match id.as_str() {
            file::GLOBAL => file::parse_global(&path, &toml, &users::uid).map(drop),
            id => file::parse_profile(id, &path, &toml, &users::uid).map(drop),
        };
        Ok(Response::new(ValidateProfileReply {
            error: parsed.err().map(|error| error.to_string()).unwrap_or_default(),
        }))
    }

    async fn explain(
        &self,
        request: Request<ExplainConnectionRequest>,
    ) -> Result<Response<ExplainConnectionReply>, Status> {
        let request = question(request.into_inner())?;
        let reply = self
            .client()
            .explain(request)
            .await
            .map_err(passed_on(BEHIND))?
            .into_inner();
        Ok(Response::new(ExplainConnectionReply {
            decision: reply.decision.map(wire::decision),
            policy_version: reply.policy_version,
            steps: reply.steps,
        }))
    }
}

fn question(asked: ExplainConnectionRequest) -> Result<policy::ExplainRequest, Status> {
    let remote = asked.remote.unwrap_or_default();
    if remote.address.is_empty() {
        return Err(Status::invalid_argument(
            "remote.address is missing: an IP address",
        ));
    }
    let remote_address = octets("remote.address", &remote.address)?;
    let local = asked.local.unwrap_or_default();
    let local_address = match local.address.as_str() {
        "" if remote_address.len() == 4 => vec![0; 4],
        "" => vec![0; 16],
        text => octets("local.address", text)?,
    };
    let direction = match asked.direction {
        0 => flow::Direction::Outgoing.into(),
        given => given,
    };
    let flow = flow::Flow {
        direction,
        protocol: if asked.protocol == 0 { 6 } else { asked.protocol },
        local_address,
        local_port: port("local", &local)?,
        remote_address,
        remote_port: port("remote", &remote)?,
    };
    let is_unknown = asked.executable.is_empty() && asked.uid.is_none();
    let process = (!is_unknown).then(|| flow::Process {
        uid: asked.uid.unwrap_or(0),
        executable: Some(flow::Executable {
            path: asked.executable,
            ..flow::Executable::default()
        }),
        script: asked.script,
        cgroup: Some(flow::Cgroup {
            path: asked.cgroup,
            unit: asked.unit,
            container: asked.container,
            flatpak: asked.flatpak,
            snap: asked.snap,
            ..flow::Cgroup::default()
        }),
        ..flow::Process::default()
    });
    Ok(policy::ExplainRequest {
        process,
        flow: Some(flow),
        domain: asked.domain.trim_end_matches('.').to_lowercase(),
    })
}

pub(super) fn octets(field: &str, text: &str) -> Result<Vec<u8>, Status> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => Ok(address.octets().to_vec()),
        Ok(IpAddr::V6(address)) => Ok(address.octets().to_vec()),
        Err(_) => Err(Status::invalid_argument(format!(
            "{field}: {text:?} is no IP address"
        ))),
    }
}

pub(super) fn port(field: &str, end: &Endpoint) -> Result<u32, Status> {
    match u16::try_from(end.port) {
        Ok(port) => Ok(port.into()),
        Err(_) => Err(Status::invalid_argument(format!(
            "{field}.port: {} is above 65535",
            end.port
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(remote: &str) -> ExplainConnectionRequest {
        ExplainConnectionRequest {
            remote: Some(Endpoint {
                address: remote.into(),
                port: 443,
            }),
            ..ExplainConnectionRequest::default()
        }
    }

    #[test]
    fn what_is_left_out_is_what_most_mean() {
        let question = question(asked("2001:db8::1")).unwrap();
        let flow = question.flow.unwrap();
        assert_eq!(
            (flow.protocol, flow.direction, flow.local_address.len()),
            (6, 1, 16)
        );
        assert!(question.process.is_none());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let said = |asked| question(asked).unwrap_err().message().to_owned();
        assert!(said(ExplainConnectionRequest::default()).contains("remote.address is missing"));
        assert!(said(asked("nonsense")).contains("nonsense"));
        let mut port = asked("192.0.2.1");
        port.remote.as_mut().unwrap().port = 70_000;
        assert!(said(port).contains("70000"));
    }
}
