//! A stream lasts as long as its caller may have it: a token that is revoked, or has expired, ends it, and so does leaving the group.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Status, body::Body};

/// So often it is looked at: what costs a hash is no matter for every message.
const EVERY: Duration = Duration::from_secs(1);

/// Says why the caller may no longer.
type Look = Box<dyn FnMut() -> Result<(), Status> + Send>;

/// See the module's head.
pub struct Lasting {
    body: Body,
    look: Look,
    due: Interval,
    is_over: bool,
}

impl Lasting {
    /// As long as `look` finds nothing against it.
    pub fn new(body: Body, look: impl FnMut() -> Result<(), Status> + Send + 'static) -> Self {
        Self::looked_at(EVERY, body, look)
    }

    fn looked_at(
        every: Duration,
        body: Body,
        look: impl FnMut() -> Result<(), Status> + Send + 'static,
    ) -> Self {
        let mut due = tokio::time::interval_at(Instant::now() + every, every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            body,
            look: Box::new(look),
            due,
            is_over: false,
        }
    }
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        while self.due.poll_tick(context).is_ready() {
            if let Err(status) = (self.look)() {
                self.is_over = true;
                let mut end = http::HeaderMap::new();
                return Poll::Ready(Some(status.add_header(&mut end).map(|()| Frame::trailers(end))));
            }
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_the_reason_once_its_caller_may_no_longer() {
        let ticks = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let octet = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, Status>(octet), ()))
        });
        let mut looks = 0;
        let look = move || {
            looks += 1;
            match looks {
                1 | 2 => Ok(()),
                _ => Err(Status::unauthenticated("revoked")),
            }
        };
        let began = Instant::now();
        let every = Duration::from_millis(50);
        let mut body = Lasting::looked_at(every, Body::new(StreamBody::new(ticks)), look);
        let mut octets = 0;
        let end = loop {
            match body.frame().await.unwrap().unwrap().into_data() {
                Ok(_) => octets += 1,
                Err(end) => break end.into_trailers().unwrap(),
            }
        };
        assert!(began.elapsed() >= 3 * every && octets > 3, "{octets}");
        let status = Status::from_header_map(&end).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::Unauthenticated, "revoked")
        );
        assert!(body.frame().await.is_none(), "it is over");
    }
}
