//! `Processes`: of the process-resolver.

use api::v1::{
    LookupProcessReply, LookupProcessRequest, SocketPair, lookup_process_request::Subject,
    processes_server::Processes,
};
use proto::{
    convert::miss_text,
    flow::v1 as flow,
    resolver::v1::{self as resolver, process_resolver_client::ProcessResolverClient},
};
use tonic::{Request, Response, Status, transport::Channel};

use super::{
    passed_on,
    policy::{octets, port},
};
use crate::wire;

const BEHIND: &str = "process-resolver";

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// To it.
    pub channel: Channel,
}

#[tonic::async_trait]
impl Processes for Service {
    async fn lookup(
        &self,
        request: Request<LookupProcessRequest>,
    ) -> Result<Response<LookupProcessReply>, Status> {
        let LookupProcessRequest { subject, hash } = request.into_inner();
        let subject = match subject {
            Some(Subject::Pid(pid)) => resolver::lookup_request::Subject::Pid(pid),
            Some(Subject::Connection(pair)) => resolver::lookup_request::Subject::Flow(flow_of(pair)?),
            None => return Err(Status::invalid_argument("subject is missing: pid or connection")),
        };
        let request = resolver::LookupRequest {
            subject: Some(subject),
            hash,
        };
        let reply = ProcessResolverClient::new(self.channel.clone())
            .lookup(request)
            .await;
        let reply = reply.map_err(passed_on(BEHIND))?.into_inner();
        let unknown = if reply.process.is_none() {
            miss_text(reply.miss())
        } else {
            ""
        };
        let executable = reply
            .process
            .as_ref()
            .and_then(|process| process.executable.as_ref());
        let sha256 = executable.map(|file| file.sha256.iter().map(|octet| format!("{octet:02x}")).collect());
        Ok(Response::new(LookupProcessReply {
            unknown: unknown.to_owned(),
            sha256: sha256.unwrap_or_default(),
            process: reply.process.map(wire::process),
        }))
    }
}

fn flow_of(pair: SocketPair) -> Result<flow::Flow, Status> {
    let (local, remote) = (pair.local.unwrap_or_default(), pair.remote.unwrap_or_default());
    let direction = match pair.direction {
        0 => flow::Direction::Outgoing.into(),
        given => given,
    };
    Ok(flow::Flow {
        direction,
        protocol: if pair.protocol == 0 { 6 } else { pair.protocol },
        local_address: octets("connection.local.address", &local.address)?,
        local_port: port("connection.local", &local)?,
        remote_address: octets("connection.remote.address", &remote.address)?,
        remote_port: port("connection.remote", &remote)?,
    })
}
