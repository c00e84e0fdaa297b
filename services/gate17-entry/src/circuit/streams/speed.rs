//! Octets that mean nothing, from the last node and to it: how much a path carries.

use std::{
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};
use http::{Method, Request, StatusCode, header::AUTHORIZATION};
use proto::gate17::v1::Cause;
use tokio::time::timeout_at;

use super::{Circuit, OPEN, malformed};
use crate::refusal::Refusal;

const SPEED: &str = "https://localhost/.well-known/gate17/speed";
/// Asked for; a node may have less.
const OCTETS: u64 = 256 << 20;
/// Of the answer that tells how much came.
const LONGEST_COUNT: usize = 20;
/// Of what is sent at once.
const PART: usize = 64 << 10;
static NOTHING: [u8; PART] = [0; PART];

/// What went one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// So many octets.
    pub octets: u64,
    /// In this time.
    pub time: Duration,
}

impl Circuit {
    /// From the last node, for so long at most.
    ///
    /// # Errors
    /// Where it does not let anybody measure, or breaks.
    pub async fn pour(self: &Arc<Self>, time: Duration) -> Result<Way, Refusal> {
        let (answer, mut to, _place) = self.ask(Method::GET, &format!("{SPEED}?octets={OCTETS}")).await?;
        // nothing follows; a node that has answered already needs no end
        let _ = to.send_data(Bytes::new(), true);
        let mut from = self.measured(answer).await?;
        let began = Instant::now();
        let until = (began + time).into();
        let mut octets = 0_u64;
        // what came when it ended by time counts as well
        while let Ok(Some(data)) = timeout_at(until, from.data()).await {
            let count = match data {
                Ok(data) => data.len(),
                Err(error) => return Err(self.broken(&error).await),
            };
            octets += count as u64;
            if let Err(error) = from.flow_control().release_capacity(count) {
                return Err(self.broken(&error).await);
            }
        }
        Ok(Way {
            octets,
            time: began.elapsed(),
        })
    }

    /// To the last node, for so long at most; it says when it has all of it.
    ///
    /// # Errors
    /// As [`Self::pour`].
    pub async fn drench(self: &Arc<Self>, time: Duration) -> Result<Way, Refusal> {
        let (answer, mut to, _place) = self.ask(Method::POST, SPEED).await?;
        let began = Instant::now();
        let sending = async {
            let until = began + time;
            let mut octets = 0_u64;
            while octets < OCTETS && Instant::now() < until {
                match timeout_at(until.into(), part(&mut to)).await {
                    Ok(Some(count)) => octets += count,
                    // the answer says why
                    Ok(None) => return,
                    Err(_) => break,
                }
            }
            let _ = to.send_data(Bytes::new(), true);
        };
        let ((), answered) = tokio::join!(sending, self.measured(answer));
        let answer = answered?;
        let time = began.elapsed();
        let said = self.whole(answer, LONGEST_COUNT).await?;
        let octets = std::str::from_utf8(&said).ok().and_then(|said| said.parse().ok());
        let octets = octets.ok_or_else(|| {
            let node = &self.exit.id.0;
            Refusal::new(Cause::Node, format!("node {node} does not say how much came"))
        })?;
        Ok(Way { octets, time })
    }

    async fn ask(
        self: &Arc<Self>,
        method: Method,
        uri: &str,
    ) -> Result<(ResponseFuture, SendStream<Bytes>, super::Place), Refusal> {
        let request = Request::builder().method(method).uri(uri);
        let request = self.with(AUTHORIZATION, request).body(()).map_err(malformed)?;
        let place = self.place();
        let (answer, to) = self.send(request).await?;
        Ok((answer, to, place))
    }

    /// The answer of a node that lets clients measure.
    async fn measured(&self, answer: ResponseFuture) -> Result<h2::RecvStream, Refusal> {
        let answer = match tokio::time::timeout(OPEN + OPEN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.broken(&error).await),
            Err(_) => return Err(self.silent().await),
        };
        let node = &self.exit.id.0;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            StatusCode::TOO_MANY_REQUESTS => Err(Refusal::new(
                Cause::Limit,
                format!("node {node} has been measured too often: try again in a few seconds"),
            )),
            status => Err(Refusal::new(
                Cause::Policy,
                format!("node {node} lets nobody measure ({status}): name another with --via"),
            )),
        }
    }
}

/// As much as there is room for; None where the stream is over.
async fn part(to: &mut SendStream<Bytes>) -> Option<u64> {
    to.reserve_capacity(PART);
    let room = loop {
        match poll_fn(|context| to.poll_capacity(context)).await {
            Some(Ok(0)) => {}
            Some(Ok(room)) => break room.min(PART),
            Some(Err(_)) | None => return None,
        }
    };
    let octets = Bytes::from_static(&NOTHING).slice(..room);
    to.send_data(octets, false).ok()?;
    Some(room as u64)
}
