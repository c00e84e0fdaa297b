//! Connections: whose they are, how many, for how long they may say nothing; and which form a request has.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use daemon::status::Counter;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustix::net::{SendFlags, Shutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service as _};

use crate::{
    caller::{Owners, Peer},
    gate::Guarded,
    json,
    limits::{Full, Limits, Place},
    metrics, page,
    rpc::system,
    slow::Hurried,
    web::{self, Doorkeeper},
};

/// A client that has not asked anything by then is no client; for headers of later requests likewise.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// A client that is asked whether it is there, and has not said so by then, is not.
const ASKED_EVERY: Duration = Duration::from_secs(20);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// For a request to come whole; replies may take for ever.
const REQUEST: Duration = Duration::from_secs(30);
/// Whose requests have no end: it answers many questions in one call.
const REFLECTION: &str = "/grpc.reflection.";
/// At the end, for a call that is on its way: whoever connected has been told that somebody listens.
const LAST_WORD: Duration = Duration::from_millis(200);
/// At the end, for calls that were begun. Those that watch go on at the next process, behind what they saw last.
const GRACE: Duration = Duration::from_millis(300);
/// Octets of headers.
const HEADERS: u32 = 16 << 10;
/// Calls at once on one connection.
const STREAMS: u32 = 128;
/// After an error that is ours (no descriptor is left): not at once again.
const REST: Duration = Duration::from_millis(100);

/// Whose answer the metrics are.
const LIST_SERVICES: &str = "/portmaster.api.v1.System/ListServices";

/// Takes connections.
#[derive(Clone)]
pub struct Door {
    /// Who finds out whose a connection is.
    pub owners: Arc<Owners>,
    /// What each may take.
    pub limits: Limits,
    /// Who looks at hosts and origins.
    pub keeper: Doorkeeper,
    /// What is behind.
    pub methods: Guarded,
    /// Who knows how the services are.
    pub system: system::Service,
    /// What can be called, as OpenAPI has it.
    pub open_api: Arc<str>,
    /// What is told of all this.
    pub counters: Counters,
    /// The service ends.
    pub shutdown: CancellationToken,
    /// Held by all that accepts or serves.
    pub open: mpsc::Sender<Infallible>,
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Accepted.
    pub connections: Counter,
    /// Of another host: closed at once.
    pub strangers: Counter,
    /// More than there is room for: told so, and closed at once.
    pub crowded: Counter,
    /// How long requests took.
    pub requests: metrics::Requests,
}

impl Door {
    /// Accepts until the service ends.
    pub async fn accept(self, listener: TcpListener) {
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => self.admit(stream, address),
                    Err(error) => {
                        tracing::debug!(%error, "a connection could not be accepted");
                        tokio::time::sleep(REST).await;
                    }
                }
            }
        };
        self.shutdown.run_until_cancelled(accept).await;
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        if !address.ip().is_loopback() {
            self.counters.strangers.add(1);
            return;
        }
        // it may be gone already
        let Ok(peer) = self.owners.peer(&stream, address) else {
            return;
        };
        let place = match self.limits.connect(peer.uid) {
            Ok(place) => place,
            Err(full) => {
                self.counters.crowded.add(1);
                return turn_away(&stream, full);
            }
        };
        self.counters.connections.add(1);
        let _ = stream.set_nodelay(true);
        tokio::spawn(self.clone().serve(stream, Arc::new(peer), place));
    }

    async fn serve(self, stream: TcpStream, peer: Arc<Peer>, place: Place) {
        let asked = Arc::new(AtomicBool::new(false));
        let (shutdown, open) = (self.shutdown.clone(), self.open.clone());
        let service = service_fn({
            let (door, asked) = (self, Arc::clone(&asked));
            move |mut request: Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(Arc::clone(&peer));
                let door = door.clone();
                async move { Ok::<_, Infallible>(door.answer(request.map(Body::new)).await) }
            }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(FIRST_WORD)
            .max_buf_size(HEADERS as usize);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(ASKED_EVERY)
            .keep_alive_timeout(ANSWERED_WITHIN)
            .max_header_list_size(HEADERS)
            .max_concurrent_streams(STREAMS);
        let serving = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let ends = async {
            shutdown.cancelled().await;
            if !asked.load(Ordering::Relaxed) {
                tokio::time::sleep(LAST_WORD).await;
            }
        };
        let silent = async {
            tokio::time::sleep(FIRST_WORD).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // what a client does wrong is its own matter
            _ = &mut serving => {}
            () = silent => {}
            () = ends => {
                serving.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(GRACE, serving).await;
            }
        }
        drop((place, open));
    }

    /// One request, in whichever form it came.
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let requests = &self.counters.requests;
        let took = if is_grpc(&request) {
            &requests.grpc
        } else {
            &requests.http
        };
        let (took, began) = (took.clone(), Instant::now());
        let mut response = match self.keeper.check(&request) {
            Err(status) if is_grpc(&request) => status.into_http(),
            Err(status) => json::error(&status),
            Ok(()) if request.method() == Method::OPTIONS => self.keeper.preflight(),
            Ok(()) => self.route(request).await,
        };
        self.keeper.finish(origin.as_ref(), &mut response);
        took.record(began.elapsed());
        response
    }

    async fn route(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let request = match path.starts_with(REFLECTION) {
            true => request,
            false => request.map(|body| Body::new(Hurried::new(body, REQUEST))),
        };
        if is_grpc(&request) {
            let mut methods = GrpcWebLayer::new().layer(self.methods.clone());
            return methods.call(request).await.unwrap_or_else(|never| match never {});
        }
        if path.starts_with("/portmaster.") {
            return json::answer(self.methods.clone(), request).await;
        }
        match (request.method(), path.as_str()) {
            (&Method::GET, "/openapi.json") => {
                let text = self.open_api.as_bytes().to_vec();
                web::plain(StatusCode::OK, "application/json", text)
            }
            (&Method::GET, "/metrics") => {
                let (parts, _) = request.into_parts();
                self.metrics(&parts).await
            }
            (_, page::session::PATH) => page::session::answer(&self.methods.gate, request).await,
            _ => page::answer(&request).unwrap_or_else(|| {
                web::plain(
                    StatusCode::NOT_FOUND,
                    "text/plain; charset=utf-8",
                    "There is nothing here. /openapi.json says what can be called.\n",
                )
            }),
        }
    }

    /// For whom the services' counters are readable by every other way.
    async fn metrics(&self, request: &Parts) -> Response<Body> {
        let Some(peer) = request.extensions.get::<Arc<Peer>>() else {
            return json::error(&Status::internal("the connection has no peer"));
        };
        let passed = self
            .methods
            .gate
            .pass(LIST_SERVICES, &request.headers, peer)
            .await;
        match passed {
            Ok(_) => web::plain(
                StatusCode::OK,
                metrics::KIND,
                metrics::text(&self.system.services().await),
            ),
            Err(status) => json::error(&status),
        }
    }
}

/// Says why, as far as it can be said to whom nobody listens: one answer in HTTP/1.1, which waits for nothing.
fn turn_away(stream: &TcpStream, full: Full) {
    let text = serde_json::json!({ "code": "resource_exhausted", "message": full.to_string() }).to_string();
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    // who does not take it is gone
    let _ = rustix::net::send(
        stream,
        answer.as_bytes(),
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    );
    let _ = rustix::net::shutdown(stream, Shutdown::Write);
}

/// gRPC, or gRPC-web; all else is JSON, or a page.
fn is_grpc(request: &Request<Body>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
