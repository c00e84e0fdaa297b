//! What one stream of the interceptor's asks for.

use std::collections::HashMap;

use daemon::telemetry::{self, Span};
use proto::gate17::v1::{Cause, FromEntry, Open, Opened, Refused, ToEntry, from_entry::Said, to_entry};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tonic::Streaming;

use super::{Link, Opener};

/// Opened at once for one interceptor; more are refused.
const MOST: usize = 4096;

/// One stream's requests; dropped, what is being opened for it ends.
pub(super) struct Exchange<'a, O> {
    link: &'a Link,
    opener: O,
    replies: mpsc::UnboundedSender<FromEntry>,
    opening: JoinSet<u64>,
    by_request: HashMap<u64, AbortHandle>,
}

impl<'a, O: Opener> Exchange<'a, O> {
    pub(super) fn new(link: &'a Link, opener: O, replies: mpsc::UnboundedSender<FromEntry>) -> Self {
        Self {
            link,
            opener,
            replies,
            opening: JoinSet::new(),
            by_request: HashMap::new(),
        }
    }

    /// Until the interceptor is gone.
    pub(super) async fn run(mut self, mut requests: Streaming<ToEntry>) {
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(ToEntry { said: Some(said) })) => self.heard(said),
                    // a newer interceptor says more
                    Ok(Some(ToEntry { said: None })) => {}
                    Ok(None) | Err(_) => return,
                },
                Some(done) = self.opening.join_next() => {
                    if let Ok(request_id) = done {
                        self.by_request.remove(&request_id);
                    }
                }
            }
        }
    }

    fn heard(&mut self, said: to_entry::Said) {
        match said {
            to_entry::Said::Open(open) => self.open(open),
            to_entry::Said::Withdrawn(withdrawn) => {
                if let Some(task) = self.by_request.remove(&withdrawn.request_id) {
                    task.abort();
                }
            }
            to_entry::Said::Flow(answer) => self.link.answered(answer.request_id, answer.connection),
        }
    }

    fn open(
        &mut self,
        Open {
            request_id,
            connection,
            traceparent,
        }: Open,
    ) {
        let replies = self.replies.clone();
        let reply = move |said| {
            // the interceptor may be gone: its next process announces anew
            let _ = replies.send(FromEntry { said: Some(said) });
        };
        let Some(connection) = connection else {
            return reply(Said::Refused(refused(request_id, "no connection was named")));
        };
        if self.opening.len() >= MOST {
            return reply(Said::Refused(Refused {
                cause: Cause::Limit.into(),
                ..refused(request_id, "too many streams are being opened")
            }));
        }
        let opener = self.opener.clone();
        let span = telemetry::tracer().and_then(|tracer| tracer.go_on("open", &traceparent));
        let task = self.opening.spawn(async move {
            let opened = opener.open(connection).await;
            if let Some(span) = span {
                answered(span, &opened);
            }
            reply(match opened {
                Ok(opened) => Said::Opened(Opened { request_id, ..opened }),
                Err(refused) => Said::Refused(Refused {
                    request_id,
                    ..refused
                }),
            });
            request_id
        });
        self.by_request.insert(request_id, task);
    }
}

/// By how many nodes it goes, or why it does not. Which nodes, who goes where: nobody else hears of it.
fn answered(mut span: Span, opened: &Result<Opened, Refused>) {
    match opened {
        Ok(opened) => span.set(
            "portmaster.gate17.hops",
            i64::try_from(opened.hops.len()).unwrap_or(0),
        ),
        Err(refused) => span.set("portmaster.gate17.refused", refused.cause().as_str_name()),
    }
}

fn refused(request_id: u64, text: &str) -> Refused {
    Refused {
        request_id,
        cause: Cause::Unspecified.into(),
        text: text.to_owned(),
    }
}
