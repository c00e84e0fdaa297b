//! What a client measures its path with: octets that mean nothing, at most so many, so long, and so often.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    limits::{Client, Network},
    page,
    rates::{Rate, Rates},
    relay::{self, Segment},
};

const PATH: &str = "/.well-known/gate17/speed";
/// Of one measurement, each way.
const LONGEST: Duration = Duration::from_secs(15);
/// All clients together.
const AT_ONCE: usize = 4;
/// Of one client network, and of all.
const EACH: Rate = Rate {
    per_second: 1,
    burst: 4,
};
const ALL: Rate = Rate {
    per_second: 4,
    burst: 8,
};
const PART: usize = 64 << 10;
static NOTHING: [u8; PART] = [0; PART];

/// Who measures now, and did lately.
#[derive(Debug)]
pub struct Measuring {
    /// Octets of one measurement; 0: nobody measures here.
    most: u64,
    rates: Rates,
    turns: Semaphore,
}

/// Whether it is asked for.
pub fn is_asked(method: &Method, path: &str) -> bool {
    path == PATH && (method == Method::GET || method == Method::POST)
}

/// What a GET asks for: `octets=N`, which is at least 1; more than `most` is cut.
fn wanted(query: Option<&str>, most: u64) -> Option<u64> {
    let digits = query?.strip_prefix("octets=")?;
    // parse would take a sign
    let plain = (1..=18).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let octets: u64 = digits.parse().ok().filter(|_| plain)?;
    (octets > 0).then_some(octets.min(most))
}

impl Measuring {
    /// With so many MiB at most.
    pub fn new(mebibytes: u32) -> Self {
        Self {
            most: u64::from(mebibytes) << 20,
            rates: Rates::new(EACH, Some(ALL)),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether this node lets clients measure.
    pub const fn is_offered(&self) -> bool {
        self.most > 0
    }

    fn turn(&self, who: Network, now: Instant) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.try_acquire().ok()?;
        self.rates.admits(who, now).then_some(turn)
    }

    /// Answers somebody who is admitted.
    pub async fn answer(
        &self,
        client: &Arc<Client>,
        head: &Parts,
        body: RecvStream,
        mut respond: SendResponse<Segment>,
    ) {
        let Some(_turn) = self.turn(client.network(), Instant::now()) else {
            return say(StatusCode::TOO_MANY_REQUESTS, &mut respond);
        };
        if head.method == Method::POST {
            let mut received = 0;
            // what came in time is told as well
            if let Ok(None) = timeout(LONGEST, self.drain(body, &mut received)).await {
                return;
            }
            return tell(received, &mut respond);
        }
        let Some(octets) = wanted(head.uri.query(), self.most) else {
            return say(StatusCode::BAD_REQUEST, &mut respond);
        };
        if timeout(LONGEST, pour(octets, client, &mut respond))
            .await
            .is_err()
        {
            respond.send_reset(Reason::CANCEL);
        }
    }

    /// Takes it to nowhere, until it ends or is enough. None where it broke.
    async fn drain(&self, mut body: RecvStream, received: &mut u64) -> Option<()> {
        while *received < self.most {
            let Some(octets) = body.data().await else {
                break;
            };
            let count = octets.ok()?.len();
            *received += count as u64;
            body.flow_control().release_capacity(count).ok()?;
        }
        Some(())
    }
}

/// How much came.
fn tell(received: u64, respond: &mut SendResponse<Segment>) {
    let (head, content) =
        page::respond(StatusCode::OK, "text/plain", received.to_string().into()).into_parts();
    if let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), false) {
        // whoever left needs no answer
        let _ = stream.send_data(Segment::free(content), true);
    }
}

async fn pour(octets: u64, client: &Arc<Client>, respond: &mut SendResponse<Segment>) {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, octets.into());
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let Ok(mut stream) = respond.send_response(response, false) else {
        return;
    };
    let mut left = octets;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(PART).min(PART);
        let Some(room) = client.room(count).await else {
            return;
        };
        left = left.saturating_sub(count as u64);
        let part = Bytes::from_static(&NOTHING).slice(..count);
        let sent = relay::send_last(&mut stream, part, Arc::new(room), left == 0).await;
        if sent.is_err() {
            return;
        }
    }
}

/// In short: a head without a page, but for the page's header lines.
fn say(status: StatusCode, respond: &mut SendResponse<Segment>) {
    let (mut head, _) = page::error(status).into_parts();
    head.headers.insert(header::CONTENT_LENGTH, 0.into());
    // whoever left needs no answer
    let _ = respond.send_response(Response::from_parts(head, ()), true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_number_and_cut_to_what_there_is() {
        for (query, octets) in [
            (Some("octets=1"), Some(1)),
            (Some("octets=99999999"), Some(1 << 20)),
            (Some("octets=0"), None),
            (Some("octets=+1"), None),
            (Some("octets="), None),
            (Some("octets=1&x"), None),
            (Some("octets=9999999999999999999"), None),
            (None, None),
        ] {
            assert_eq!(wanted(query, 1 << 20), octets, "{query:?}");
        }
    }

    #[test]
    fn a_network_measures_so_often_and_all_so_many_at_once() {
        let (measuring, now) = (Measuring::new(1), Instant::now());
        let who = |octet| Network::of([192, 0, octet, 1].into());
        let turns: Vec<_> = (1..9)
            .filter_map(|octet| measuring.turn(who(octet), now))
            .collect();
        assert_eq!(turns.len(), AT_ONCE);
        drop(turns);
        assert!(measuring.turn(who(9), now).is_some());
        let often = (0..9).filter(|_| measuring.turn(who(1), now).is_some()).count();
        assert_eq!(often, 3, "one of the burst of four is used");
        assert!(measuring.turn(who(1), now + Duration::from_secs(1)).is_some());
        assert!(!Measuring::new(0).is_offered());
    }
}
