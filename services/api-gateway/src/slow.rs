//! A request comes within a time: whoever sends it octet by octet holds a call open, and its memory.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::{Status, body::Body};

/// See the module's head.
#[derive(Debug)]
pub struct Hurried {
    body: Body,
    end: Pin<Box<Sleep>>,
    limit: Duration,
}

impl Hurried {
    /// Of a body that must have come whole by then.
    pub fn new(body: Body, limit: Duration) -> Self {
        Self {
            body,
            end: Box::pin(tokio::time::sleep(limit)),
            limit,
        }
    }
}

impl HttpBody for Hurried {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() && self.end.as_mut().poll(context).is_ready() {
            let seconds = self.limit.as_secs();
            return Poll::Ready(Some(Err(Status::deadline_exceeded(format!(
                "the request did not come within {seconds} s"
            )))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn what_comes_in_time_comes_whole_and_the_rest_does_not() {
        let whole = Body::new(Full::new(Bytes::from_static(b"whole")));
        let hurried = Hurried::new(whole, Duration::from_secs(60));
        assert_eq!(hurried.collect().await.unwrap().to_bytes(), "whole");
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let hurried = Hurried::new(Body::new(StreamBody::new(never)), Duration::from_millis(5));
        let refused = hurried.collect().await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
    }
}
