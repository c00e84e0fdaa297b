//! `portmaster explain`: what would happen to a connection, and by which rule.
//!
//! The policy service answers by the snapshot in force; with `--config` the same engine answers from files, here. A name that
//! the DNS service would not resolve for the program never becomes a connection: its word comes first.

mod answer;
mod name;
mod subject;
mod target;

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::{Context, Result};
use proto::{
    flow::v1 as wire_flow,
    policy::v1::{ExplainRequest, policy_client::PolicyClient},
};
use tonic::transport::Channel;
use verdict::{
    Direction, Endpoint, Flow, Process, Protocol,
    policy::{CompiledPolicy, Facts},
};

use crate::{
    args::{ExplainArgs, SubjectArgs},
    files,
    output::print,
    paint::Paint,
    place::{PlaceArgs, Service},
    printable::json_line,
};
use answer::Answer;
use target::Target;

/// Explains every address of the target.
pub(crate) async fn run(args: ExplainArgs, paint: Paint) -> Result<ExitCode> {
    let process = subject::process(&args.subject, &args.place).await?;
    let mut text = String::new();
    if let Some(refused) = name::refused(&args, process.as_ref()).await? {
        text += &if args.json {
            json_line(&refused)?
        } else {
            refused.text(paint)
        };
        if target::needs_addresses(&args) {
            return print(&text);
        }
    }
    let Target { flows, domain } = target::target(&args).await?;
    let judge = Judge::new(&args)?;
    for flow in flows {
        let question = Question {
            process: process.clone(),
            flow,
            domain: domain.clone(),
        };
        let answer = judge.answer(question, &args.place).await?;
        text += &if args.json {
            json_line(&answer)?
        } else {
            answer.text(paint)
        };
    }
    print(&text)
}

/// Id of the profile that the running policy service gives to a program's processes; "" for the global defaults alone.
pub(crate) async fn profile_of(program: PathBuf, place: &PlaceArgs) -> Result<String> {
    let subject = SubjectArgs {
        program: Some(program),
        ..SubjectArgs::default()
    };
    profile_of_process(subject::process(&subject, place).await?, place).await
}

async fn profile_of_process(process: Option<wire_flow::Process>, place: &PlaceArgs) -> Result<String> {
    // any flow: a profile depends on the program alone
    let flow = Flow {
        direction: Direction::Outgoing,
        protocol: Protocol::UDP,
        local: Endpoint::new(Ipv4Addr::LOCALHOST.into(), 0),
        remote: Endpoint::new(Ipv4Addr::LOCALHOST.into(), 53),
    };
    let request = ExplainRequest {
        process,
        flow: Some(flow.into()),
        domain: String::new(),
    };
    let mut client = PolicyClient::new(place.channel(Service::Policy));
    let reply = place.answer(Service::Policy, client.explain(request).await)?;
    let decision = reply
        .decision
        .context("the policy service answered without a decision")?;
    Ok(decision.profile)
}

struct Question {
    process: Option<wire_flow::Process>,
    flow: Flow,
    domain: String,
}

/// Who answers.
enum Judge {
    Service(PolicyClient<Channel>),
    Files(Box<CompiledPolicy>),
}

impl Judge {
    fn new(args: &ExplainArgs) -> Result<Self> {
        match &args.config {
            Some(folder) => files::policy(folder).map(|policy| Self::Files(Box::new(policy))),
            None => Ok(Self::Service(PolicyClient::new(
                args.place.channel(Service::Policy),
            ))),
        }
    }

    async fn answer(&self, question: Question, place: &PlaceArgs) -> Result<Answer> {
        match self {
            Self::Files(policy) => by_files(policy, question),
            Self::Service(client) => by_service(client.clone(), question, place).await,
        }
    }
}

async fn by_service(
    mut client: PolicyClient<Channel>,
    question: Question,
    place: &PlaceArgs,
) -> Result<Answer> {
    let request = ExplainRequest {
        process: question.process.clone(),
        flow: Some(question.flow.into()),
        domain: question.domain.clone(),
    };
    let reply = place.answer(Service::Policy, client.explain(request).await)?;
    let decision = reply
        .decision
        .context("the policy service answered without a decision")?;
    Ok(Answer::new(question, decision, reply.policy_version, reply.steps))
}

fn by_files(policy: &CompiledPolicy, question: Question) -> Result<Answer> {
    let process: Option<Process> = question.process.clone().map(Process::try_from).transpose()?;
    let profile = policy.profile_for(process.as_ref());
    let domains = [question.domain.as_str()];
    let facts = Facts {
        flow: question.flow,
        scope: question.flow.scope(),
        uid: process.as_ref().map(|process| process.uid),
        domains: if question.domain.is_empty() { &[] } else { &domains },
        dns_is_served: true,
        now: SystemTime::now().into(),
    };
    let explanation = policy.explain(profile, &facts);
    let decision = (&explanation.decision).into();
    Ok(Answer::new(
        question,
        decision,
        policy.version(),
        explanation.steps,
    ))
}

#[cfg(test)]
mod tests;
