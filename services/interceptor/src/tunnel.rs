//! The stream to the entry of Gate17: what is to be opened goes out, answers come in; and it asks whose a redirected
//! connection is.
//!
//! The interceptor calls, and is not called: the entry can stop and start as it likes. What is to be tunnelled waits while it is
//! being restarted (systemd holds its socket), and is refused where nobody takes the call.

use std::{path::PathBuf, rc::Rc, time::Duration};

use daemon::{grpc, status::Status};
use proto::{
    convert,
    gate17::v1::{
        Carried, Cause, FlowQuestion, FromEntry, Open, Opened, Refused, ToEntry, Tunnelled, Withdrawn,
        from_entry::Said, to_entry, tunnel_client::TunnelClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status as Refusal;
use verdict::Flow;

use crate::{
    arrival::appears,
    conntrack::Tuple,
    judge::{self, Carrying, OpenAnswer, ToTunnel},
    names,
    traces::traces,
};

/// Where the entry serves, in the folder of sockets.
pub const ENTRY: &str = "gate17-entry";

const PROBLEM: &str = "tunnel-unavailable";
/// For an entry to take the stream: systemd may hold its socket while it is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the entry said, for the packet path.
#[derive(Debug)]
pub enum Heard {
    /// To a request.
    Answer(u64, OpenAnswer),
    /// Whose is this connection?
    Question(u64, Option<Tuple>),
    /// A live connection goes by these nodes.
    Carried(Flow, Vec<String>),
}

/// Keeps a stream open until `shutdown`. `on_end` hears at once when it ended, `on_lost` when there is nobody who takes another;
/// `on_begin` gets the way to speak, for each new stream; `on_heard` all that the entry says.
pub async fn exchange(
    socket: PathBuf,
    status: Status,
    shutdown: CancellationToken,
    on_end: impl Fn() + 'static,
    on_lost: impl Fn() + 'static,
    on_begin: impl Fn(mpsc::UnboundedSender<ToEntry>) + 'static,
    on_heard: impl Fn(Heard) + 'static,
) -> anyhow::Result<()> {
    if !socket.exists() {
        on_lost();
    }
    if shutdown.run_until_cancelled(appears(&socket)).await.is_none() {
        return Ok(());
    }
    let channel = grpc::channel(&socket);
    let (on_end, on_lost, on_begin) = (Rc::new(on_end), Rc::new(on_lost), Rc::new(on_begin));
    let connect = || {
        let (channel, status) = (channel.clone(), status.clone());
        let (on_end, on_lost, on_begin) = (Rc::clone(&on_end), Rc::clone(&on_lost), Rc::clone(&on_begin));
        async move {
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut client = TunnelClient::new(channel);
            let opening = client.exchange(UnboundedReceiverStream::new(receiver));
            let opened = tokio::time::timeout(PATIENCE, opening)
                .await
                .unwrap_or_else(|_| Err(Refusal::deadline_exceeded("it does not take the stream")))
                .inspect_err(|_| on_lost())?;
            status.clear(PROBLEM);
            on_begin(sender);
            let end = tokio_stream::once(Err(Refusal::unavailable("the stream ended")));
            let said = opened.into_inner().chain(end);
            Ok(Box::pin(said.map(move |item| {
                // before the next attempt: somebody waits
                if item.is_err() {
                    on_end();
                }
                item
            })))
        }
    };
    grpc::follow(ENTRY, shutdown, connect, |message: FromEntry| {
        if let Some(heard) = message.said.and_then(heard) {
            on_heard(heard);
        }
    })
    .await;
    Ok(())
}

/// Something was refused since there is no entry: said once, until there is one.
pub fn is_missing(status: &Status) {
    status.raise(
        PROBLEM,
        "connections that are to be tunnelled are refused: gate17-entry is not there (systemctl status portmaster-gate17-entry)",
    );
}

/// By a new policy nothing may be meant for the tunnel any more; else it is said again.
pub fn is_forgotten(status: &Status) {
    status.clear(PROBLEM);
}

/// `None`: it makes no sense.
fn heard(said: Said) -> Option<Heard> {
    Some(match said {
        Said::Opened(Opened { request_id, hops, .. }) => {
            Heard::Answer(request_id, OpenAnswer::Opened { hops })
        }
        Said::Refused(refused) => {
            let refusal = refusal(refused.cause());
            let Refused { request_id, text, .. } = refused;
            Heard::Answer(request_id, OpenAnswer::Refused { refusal, text })
        }
        Said::Flow(question) => Heard::Question(question.request_id, tuple(&question)),
        Said::Carried(Carried { flow, hops, .. }) => Heard::Carried(flow?.try_into().ok()?, hops),
    })
}

/// As the entry's answer to that client travels.
fn tuple(question: &FlowQuestion) -> Option<Tuple> {
    names::tuple_of_reply(
        question.protocol,
        (&question.client_address, question.client_port),
        (&question.server_address, question.server_port),
    )
}

const fn refusal(cause: Cause) -> judge::Refusal {
    match cause {
        Cause::Refused | Cause::Unreachable | Cause::Policy => judge::Refusal::Said,
        Cause::Timeout => judge::Refusal::Silent,
        Cause::Unspecified | Cause::NoPath | Cause::Node | Cause::Limit => judge::Refusal::NoWay,
    }
}

/// What the judge wants the entry to hear.
pub fn to_entry(wanted: ToTunnel) -> ToEntry {
    let said = match wanted {
        ToTunnel::Open { request_id, carrying } => to_entry::Said::Open(Open {
            request_id,
            traceparent: traces()
                .map(|traces| traces.tunnelling(&carrying.connection.flow))
                .unwrap_or_default(),
            connection: Some(tunnelled(&carrying)),
        }),
        ToTunnel::Withdrawn(request_id) => to_entry::Said::Withdrawn(Withdrawn { request_id }),
    };
    ToEntry { said: Some(said) }
}

/// The answer to [`Heard::Question`].
pub fn flow_answer(request_id: u64, carrying: Option<&Carrying>) -> ToEntry {
    let answer = proto::gate17::v1::FlowAnswer {
        request_id,
        connection: carrying.map(tunnelled),
    };
    ToEntry {
        said: Some(to_entry::Said::Flow(answer)),
    }
}

fn tunnelled(Carrying { connection, options }: &Carrying) -> Tunnelled {
    Tunnelled {
        flow: Some(connection.flow.into()),
        app: Some(convert::app(
            connection.who.process.as_deref(),
            connection.who.uid,
        )),
        profile: connection.decision.profile.to_string(),
        domain: connection.domain.as_deref().unwrap_or_default().to_owned(),
        connection: connection.id,
        options: Some(options.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_entry_cannot_carry_is_a_refusal_of_its_kind() {
        let kinds = |cause| refusal(cause);
        assert_eq!(kinds(Cause::Refused), judge::Refusal::Said);
        assert_eq!(kinds(Cause::Timeout), judge::Refusal::Silent);
        assert_eq!(
            kinds(Cause::Unspecified),
            judge::Refusal::NoWay,
            "a newer entry's word"
        );
    }

    #[test]
    fn a_question_with_half_an_address_is_about_nothing() {
        let question = FlowQuestion {
            protocol: 17,
            client_address: vec![127, 0, 0],
            ..FlowQuestion::default()
        };
        assert!(tuple(&question).is_none());
    }
}
