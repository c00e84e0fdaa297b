//! What a circuit carries: connections and datagrams from its exit, names asked there, and the map.

mod speed;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gate17_proto::target::{Host, Target};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, ETAG, IF_NONE_MATCH, PROXY_AUTHORIZATION},
    request::Builder,
};
use proto::gate17::v1::Cause;
use tokio::time::timeout;

use super::{Circuit, Place, build::silent, reach::connect};
use crate::{
    blame::{Fault, Seen},
    refusal::Refusal,
    tunnel::Tunnel,
};

pub use speed::Way;

/// For a destination to answer; nodes give up before.
const OPEN: Duration = Duration::from_secs(20);
/// Without an answer for so long, the nodes are asked whether they are there.
const DOUBT: Duration = Duration::from_secs(3);
/// For the connection to take a request.
const READY: Duration = Duration::from_secs(5);
/// Of an answer to a query.
const LONGEST_NAME: usize = 65_535;
/// Of a map, and its envelope's brackets.
const LONGEST_MAP: usize = gate17_proto::map::MAX_LENGTH + 1;
const MAP: &str = "https://localhost/.well-known/gate17/map";

/// A node's answer to "what is the map?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// What we have.
    Same,
    /// The envelope, and the tag by which the node knows it.
    New(Vec<u8>, Option<String>),
}

impl Circuit {
    /// A TCP connection from the exit.
    ///
    /// # Errors
    /// What the exit or the destination said; `Cause::Node` where the circuit is broken.
    pub async fn open_tcp(self: &Arc<Self>, target: &Target) -> Result<Tunnel, Refusal> {
        let request = connect(&target.to_string(), self.authorization())
            .map_err(|error| Refusal::new(Cause::Policy, error.to_string()))?;
        let (place, began) = (self.place(), Instant::now());
        let (answer, to) = self.send(request).await?;
        let from = self.answered(answer).await?.into_body();
        self.note_distance(target, began.elapsed());
        Ok(Tunnel::open(&self.exit.id.0, from, to, place))
    }

    /// Datagrams from the exit (RFC 9298): capsules on the streams.
    ///
    /// # Errors
    /// As [`Self::open_tcp`].
    pub async fn open_udp(
        self: &Arc<Self>,
        target: &Target,
    ) -> Result<(RecvStream, SendStream<Bytes>, Place), Refusal> {
        let uri = Uri::builder()
            .scheme("https")
            .authority("localhost")
            .path_and_query(target.udp_path())
            .build()
            .map_err(malformed)?;
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(uri)
            .header("capsule-protocol", "?1")
            .extension(h2::ext::Protocol::from_static("connect-udp"));
        let request = self
            .with(PROXY_AUTHORIZATION, request)
            .body(())
            .map_err(malformed)?;
        let place = self.place();
        let (answer, to) = self.send(request).await?;
        Ok((self.answered(answer).await?.into_body(), to, place))
    }

    /// A DNS query, answered by the exit's resolver (RFC 8484).
    ///
    /// # Errors
    /// As [`Self::open_tcp`].
    pub async fn resolve(self: &Arc<Self>, query: Bytes) -> Result<Vec<u8>, Refusal> {
        let request = Request::builder()
            .method(Method::POST)
            .uri("https://localhost/dns-query")
            .header("content-type", "application/dns-message")
            .header("accept", "application/dns-message");
        let request = self.with(AUTHORIZATION, request).body(()).map_err(malformed)?;
        let _place = self.place();
        let (answer, mut to) = self.send(request).await?;
        if let Err(error) = to.send_data(query, true) {
            return Err(self.broken(&error).await);
        }
        let answer = self.answered(answer).await?;
        self.whole(answer.into_body(), LONGEST_NAME).await
    }

    /// The map, from the last node.
    ///
    /// # Errors
    /// As [`Self::open_tcp`].
    pub async fn fetch_map(self: &Arc<Self>, known: Option<&str>) -> Result<Fetched, Refusal> {
        let mut request = Request::builder().method(Method::GET).uri(MAP);
        if let Some(tag) = known {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = self.with(AUTHORIZATION, request).body(()).map_err(malformed)?;
        let _place = self.place();
        let (answer, mut to) = self.send(request).await?;
        // nothing follows; a node that has answered already needs no end
        let _ = to.send_data(Bytes::new(), true);
        let answer = self.response(answer).await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED => Ok(Fetched::Same),
            StatusCode::OK => {
                let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
                let tag = tag.map(str::to_owned);
                let envelope = self.whole(answer.into_body(), LONGEST_MAP).await?;
                Ok(Fetched::New(envelope, tag))
            }
            status => Err(Refusal::new(
                Cause::Node,
                format!("node {} serves no map: {status}", self.exit.id.0),
            )),
        }
    }

    /// What the exit needed for itself.
    fn note_distance(&self, target: &Target, took: Duration) {
        let address = match target.host {
            Host::V4(address) => IpAddr::V4(address),
            Host::V6(address) => IpAddr::V6(address),
            Host::Name(_) => return,
        };
        if let Some(to_exit) = self.round_trip() {
            let took = took.saturating_sub(to_exit);
            self.reached
                .measured(&self.exit.id, address, took, Instant::now());
        }
    }

    fn authorization(&self) -> Option<&HeaderValue> {
        self.legs.last()?.authorization.as_ref()
    }

    fn with(&self, name: http::HeaderName, request: Builder) -> Builder {
        match self.authorization() {
            Some(value) => request.header(name, value),
            None => request,
        }
    }

    async fn send(&self, request: Request<()>) -> Result<(ResponseFuture, SendStream<Bytes>), Refusal> {
        let Some(last) = self.legs.last() else {
            return Err(Refusal::new(Cause::Node, "no nodes"));
        };
        match timeout(READY, last.request(request)).await {
            Ok(Ok(sent)) => Ok(sent),
            Ok(Err(error)) => Err(self.broken(&error).await),
            Err(_) => Err(self.silent().await),
        }
    }

    /// An answer that is a 200.
    async fn answered(&self, answer: ResponseFuture) -> Result<Response<RecvStream>, Refusal> {
        let answer = self.response(answer).await?;
        if answer.status() == StatusCode::OK {
            self.nodes.did_well(&self.exit.id, Instant::now());
            return Ok(answer);
        }
        let refusal = Refusal::of_answer(&self.exit.id.0, answer.status(), answer.headers());
        if refusal.cause == Cause::Node {
            self.failed(&Fault::new(
                self.last_place(),
                Seen::Declined,
                refusal.text.clone(),
            ));
        }
        Err(refusal)
    }

    async fn response(&self, answer: ResponseFuture) -> Result<Response<RecvStream>, Refusal> {
        let doubt = async {
            tokio::time::sleep(DOUBT).await;
            match self.ping().await {
                Some(_) => std::future::pending().await,
                None => silent(&self.legs).await,
            }
        };
        tokio::select! {
            answer = timeout(OPEN, answer) => match answer {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(self.broken(&error).await),
                // a node that is well gives up on a destination before
                Err(_) => Err(self.silent().await),
            },
            Some(fault) = doubt => Err(self.over(&fault)),
        }
    }

    async fn whole(&self, mut from: RecvStream, longest: usize) -> Result<Vec<u8>, Refusal> {
        let mut octets = Vec::new();
        loop {
            let data = match timeout(OPEN, from.data()).await {
                Ok(Some(Ok(data))) => data,
                Ok(Some(Err(error))) => return Err(self.broken(&error).await),
                Ok(None) => return Ok(octets),
                Err(_) => return Err(self.silent().await),
            };
            if let Err(error) = from.flow_control().release_capacity(data.len()) {
                return Err(self.broken(&error).await);
            }
            octets.extend_from_slice(&data);
            if octets.len() > longest {
                let fault = Fault::new(self.last_place(), Seen::Violated, "its answer has no end");
                self.failed(&fault);
                return Err(self.told(&fault));
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn malformed(error: http::Error) -> Refusal {
    Refusal::new(Cause::Policy, error.to_string())
}
