//! gRPC's messages in a body (`grpc/doc/PROTOCOL-HTTP2.md`: a flag, four octets of length, the message; the status in trailers).

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, body::Body};

/// Octets before each message.
const HEAD: usize = 5;

/// Messages of one answer.
pub(super) struct Frames {
    body: Body,
    buffer: BytesMut,
    ended: bool,
}

impl Frames {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            ended: false,
        }
    }

    /// The next; an error is the last.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            if let Some(message) = self.buffered() {
                return Some(Ok(message));
            }
            if self.ended {
                return None;
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(status)) => {
                    self.ended = true;
                    return Some(Err(status));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    // a message by itself is not copied
                    Ok(data) if self.buffer.is_empty() && is_one(&data) => {
                        return Some(Ok(data.slice(HEAD..)));
                    }
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(other) => {
                        let trailers = other.into_trailers().ok();
                        let status = trailers.and_then(|trailers| Status::from_header_map(&trailers));
                        if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                            self.ended = true;
                            return Some(Err(status));
                        }
                    }
                },
            }
        }
    }

    fn buffered(&mut self) -> Option<Bytes> {
        let length = length(&self.buffer)?;
        if self.buffer.len() - HEAD < length {
            return None;
        }
        self.buffer.advance(HEAD);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// A message, and nothing else.
fn is_one(octets: &[u8]) -> bool {
    length(octets).is_some_and(|length| octets.len() - HEAD == length)
}

/// Of the message whose head is there.
fn length(octets: &[u8]) -> Option<usize> {
    let (head, _) = octets.split_at_checked(HEAD)?;
    let length = <[u8; 4]>::try_from(head.get(1..)?).ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}
