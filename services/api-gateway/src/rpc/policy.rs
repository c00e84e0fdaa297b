//! `Policy`: of the policy service.

mod change;
mod probes;

use api::v1::{
    AddRuleRequest, ChangeReply, DeleteProfileRequest, Endpoint, ExplainConnectionReply,
    ExplainConnectionRequest, GetPolicyRequest, GetProfileRequest, GetSettingsRequest, ListProfilesReply,
    ListProfilesRequest, ListRefusedFilesRequest, RemoveRuleRequest, SetProfileRequest, SetSettingsRequest,
    SettingsState, ValidateProfileReply, ValidateProfileRequest, policy_server::Policy,
    settings_server::Settings,
};
use proto::{
    MAX_SNAPSHOT, convert,
    flow::v1 as flow,
    policy::v1::{self as policy, change_request::Change, policy_client::PolicyClient},
};
use tonic::{Request, Response, Status, transport::Channel};

use daemon::users;
use verdict::policy::file;

use super::passed_on;
use crate::{gate::Gate, hub::Hub, wire};
use change::Wanted;

const BEHIND: &str = "policy";

/// See the module's head.
#[derive(Clone)]
pub struct Service {
    /// To it.
    pub channel: Channel,
    /// Who may.
    pub gate: Gate,
    /// What lives, and may be decided otherwise after a change.
    pub hub: Hub,
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
        Ok(Response::new(explained(reply)))
    }

    async fn list_profiles(
        &self,
        _: Request<ListProfilesRequest>,
    ) -> Result<Response<ListProfilesReply>, Status> {
        let reply = self.files("").await?;
        let profiles = reply.files.into_iter().map(|file| policy::ProfileFile {
            toml: String::new(),
            ..file
        });
        Ok(Response::new(ListProfilesReply {
            profiles: profiles.collect(),
        }))
    }

    async fn get_profile(
        &self,
        request: Request<GetProfileRequest>,
    ) -> Result<Response<policy::ProfileFile>, Status> {
        let id = request.into_inner().id;
        if id.is_empty() {
            return Err(Status::invalid_argument(
                "id is missing: the file's name without .toml",
            ));
        }
        let found = self.files(&id).await?.files.pop();
        let found = found.filter(|file| !file.revision.is_empty());
        found.map(Response::new).ok_or_else(|| {
            Status::not_found(format!(
                "there is no profile {id:?}; Policy/ListProfiles names them"
            ))
        })
    }

    async fn set_profile(
        &self,
        request: Request<SetProfileRequest>,
    ) -> Result<Response<ChangeReply>, Status> {
        let wanted = Wanted::of(&request, |asked| Wanted {
            id: asked.id.clone(),
            change: Change::Toml(asked.toml.clone()),
            expected_revision: asked.expected_revision.clone(),
            force: asked.force,
            dry_run: asked.dry_run,
            explain: asked.explain.clone(),
        });
        self.change(&request, wanted).await
    }

    async fn delete_profile(
        &self,
        request: Request<DeleteProfileRequest>,
    ) -> Result<Response<ChangeReply>, Status> {
        let wanted = Wanted::of(&request, |asked| Wanted {
            id: asked.id.clone(),
            change: Change::Remove(policy::change_request::Remove {}),
            expected_revision: asked.expected_revision.clone(),
            force: asked.force,
            dry_run: asked.dry_run,
            explain: asked.explain.clone(),
        });
        self.change(&request, wanted).await
    }

    async fn add_rule(&self, request: Request<AddRuleRequest>) -> Result<Response<ChangeReply>, Status> {
        let wanted = Wanted::of(&request, |asked| Wanted {
            id: asked.id.clone(),
            change: Change::AddRule(policy::change_request::AddRule {
                rule: asked.rule.clone(),
                number: asked.number,
                r#match: asked.r#match.clone(),
            }),
            expected_revision: asked.expected_revision.clone(),
            force: asked.force,
            dry_run: asked.dry_run,
            explain: asked.explain.clone(),
        });
        self.ask_more(&request, &wanted, "AddRule").await?;
        self.change(&request, wanted).await
    }

    async fn remove_rule(
        &self,
        request: Request<RemoveRuleRequest>,
    ) -> Result<Response<ChangeReply>, Status> {
        if request.get_ref().expected_revision.is_empty() {
            return Err(Status::invalid_argument(
                "expected_revision is missing: in another revision another rule may have this number",
            ));
        }
        let wanted = Wanted::of(&request, |asked| Wanted {
            id: asked.id.clone(),
            change: Change::RemoveRule(policy::change_request::RemoveRule { number: asked.number }),
            expected_revision: Some(asked.expected_revision.clone()),
            force: asked.force,
            dry_run: asked.dry_run,
            explain: asked.explain.clone(),
        });
        self.ask_more(&request, &wanted, "RemoveRule").await?;
        self.change(&request, wanted).await
    }
}

#[tonic::async_trait]
impl Settings for Service {
    async fn get(&self, _: Request<GetSettingsRequest>) -> Result<Response<SettingsState>, Status> {
        let mut reply = self.files(file::GLOBAL).await?;
        Ok(Response::new(SettingsState {
            in_force: reply.in_force,
            own: reply.own,
            revision: reply.files.pop().unwrap_or_default().revision,
        }))
    }

    async fn set(&self, request: Request<SetSettingsRequest>) -> Result<Response<ChangeReply>, Status> {
        let wanted = Wanted::of(&request, |asked| Wanted {
            id: file::GLOBAL.to_owned(),
            change: Change::SetSwitches(policy::change_request::SetSwitches {
                switches: Some(asked.settings.clone().unwrap_or_default()),
                fields: asked.update_mask.clone().unwrap_or_default().paths,
            }),
            expected_revision: asked.expected_revision.clone(),
            force: asked.force,
            dry_run: asked.dry_run,
            explain: asked.explain.clone(),
        });
        self.change(&request, wanted).await
    }
}

fn explained(reply: policy::ExplainReply) -> ExplainConnectionReply {
    ExplainConnectionReply {
        decision: reply.decision.map(wire::decision),
        policy_version: reply.policy_version,
        steps: reply.steps,
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
    let address = text
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{field}: {text:?} is no IP address")))?;
    Ok(convert::octets(address))
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
