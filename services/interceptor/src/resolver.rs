//! The stream to the process-resolver: questions out, answers in, in any order.

use std::{cell::RefCell, rc::Rc};

use daemon::{grpc, status::Status};
use proto::{
    convert,
    resolver::v1::{
        Miss as WireMiss, ResolveReply, ResolveRequest, process_resolver_client::ProcessResolverClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    judge::{Answer, Question},
    traces::traces,
    wire,
};

const PROBLEM: &str = "resolver-unreachable";

/// Keeps a stream open until `shutdown`. `on_lost` hears when there is none; `on_gone` when nobody is there to take one;
/// `on_begin` gets the way to ask, for each new stream; `on_searching` which answers take
/// longer; `on_answer` each answer.
#[expect(
    clippy::too_many_arguments,
    reason = "a hand for each thing that may become of the stream"
)]
pub async fn ask(
    channel: Channel,
    status: Status,
    shutdown: CancellationToken,
    on_lost: impl Fn() + 'static,
    on_gone: impl Fn() + 'static,
    on_begin: impl Fn(mpsc::UnboundedSender<Question>) + 'static,
    on_searching: impl Fn(u64) + 'static,
    on_answer: impl Fn(Answer) + 'static,
) -> anyhow::Result<()> {
    let (on_begin, on_gone) = (Rc::new(on_begin), Rc::new(on_gone));
    let malformed = status.counter("answers_malformed");
    let unreachable = Rc::new(RefCell::new(status));
    let connect = || {
        on_lost();
        let (channel, status) = (channel.clone(), Rc::clone(&unreachable));
        let (on_begin, on_gone) = (Rc::clone(&on_begin), Rc::clone(&on_gone));
        async move {
            let (sender, receiver) = mpsc::unbounded_channel();
            let requests = UnboundedReceiverStream::new(receiver).map(request);
            let opened = ProcessResolverClient::new(channel).resolve(requests).await;
            match opened {
                Ok(replies) => {
                    status.borrow().clear(PROBLEM);
                    on_begin(sender);
                    Ok(replies.into_inner())
                }
                Err(refused) => {
                    if grpc::is_absent(&refused) {
                        on_gone();
                    }
                    let text = "process-resolver cannot be reached: connections are decided as of an unknown process";
                    status.borrow().raise(PROBLEM, text);
                    Err(refused)
                }
            }
        }
    };
    grpc::follow("process-resolver", shutdown, connect, |reply: ResolveReply| {
        if reply.miss() == WireMiss::Searching {
            return on_searching(reply.request_id);
        }
        match answer(reply) {
            Ok(answer) => {
                let _deciding = traces().and_then(|traces| traces.answered(&answer));
                on_answer(answer);
            }
            Err(_) => malformed.add(1),
        }
    })
    .await;
    Ok(())
}

fn request(question: Question) -> ResolveRequest {
    ResolveRequest {
        request_id: question.request_id,
        flow: Some(question.flow.into()),
        uid: question.uid,
        hash: question.hash,
        traceparent: traces().map(|traces| traces.asked(&question)).unwrap_or_default(),
    }
}

fn answer(reply: ResolveReply) -> Result<Answer, convert::Error> {
    let miss = wire::missed(reply.miss());
    Ok(Answer {
        request_id: reply.request_id,
        process_key: reply.process_key,
        process: reply.process.map(TryInto::try_into).transpose()?,
        miss,
        uid: reply.socket_uid,
        cgroup: reply.socket_cgroup.map(Into::into),
        ended: reply.ended,
    })
}
