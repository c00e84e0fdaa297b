//! HTTP/2: streams to others (RFC 9113, section 8.5), names, and pages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use gate17_maps::padded::{Padded, Wanted};
use gate17_proto::{
    padding::{self, Frames, Grid},
    target::Target,
};
use h2::{
    Reason, RecvStream,
    ext::Protocol,
    server::{Builder, SendResponse},
};
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::{interval, sleep, timeout},
};

use crate::{
    access::Caller,
    datagrams,
    dial::{self, Failure},
    dns_query,
    greeting::{self, Able, Greeting},
    limits::{Client, Held},
    node::Node,
    page::{self, Visit},
    relay,
    relay::Segment,
    served, speed,
};

/// Of whom is admitted.
const STREAM_WINDOW: u32 = 4 << 20;
const FRAME: u32 = 256 << 10;
const HEADERS: u32 = 16 << 10;
/// Octets of a stream that wait for the connection to take them: whole frames.
const SEND_BUFFER: usize = 8 * relay::CHUNK;
/// Streams that were reset and are remembered: more, and the connection ends (CVE-2023-44487).
const RESETS: usize = 64;
/// A visitor who has nothing carried, and asks nothing, goes after this.
const VISIT: Duration = Duration::from_secs(75);
/// Of a page, handed on at once.
const PART: usize = 64 << 10;
/// A page that nobody reads is given up.
const UNREAD: Duration = Duration::from_secs(60);
/// Of small frames that wait, as h2 counts them: as for a connection's window of 16 MiB.
const SMALL_FRAMES: usize = 8 << 20;
/// Settings can be changed only when the ones before are acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_millis(2);

/// Serves one connection to its end.
pub async fn serve<I>(io: I, node: Arc<Node>, client: Arc<Client>, handshake: Held, caller: Arc<Caller>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut settings = Builder::new();
    settings
        .initial_window_size(greeting::VISITORS_WINDOW)
        .initial_connection_window_size(greeting::CONNECTIONS_WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(node.limits.bounds().streams_per_connection)
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .enable_connect_protocol();
    let able = Able {
        streams: node.limits.bounds().streams_per_connection,
        window: STREAM_WINDOW,
        frame: FRAME,
        headers: HEADERS,
    };
    let padding = Wanted::default();
    let io = Padded::new(io, Frames::of_server(), padding.clone());
    let io = Greeting::new(io, able, node.access.is_open());
    let greeted = timeout(node.handshake_time(), settings.handshake::<_, Segment>(io)).await;
    let Ok(Ok(mut connection)) = greeted else {
        return;
    };
    drop(handshake);
    let drain = node.drain_token();
    let admitted = Arc::new(Admission::default());
    let mut is_to_be_told = false;
    let mut visit = interval(VISIT);
    visit.tick().await;
    let mut draining = false;
    let mut over = std::pin::pin!(async {
        drain.cancelled().await;
        sleep(node.drain_time()).await;
    });
    let mut asked = true;
    loop {
        tokio::select! {
            request = connection.accept() => {
                let Some(Ok((request, respond))) = request else { return };
                asked = true;
                let task = Task {
                    node: Arc::clone(&node),
                    client: Arc::clone(&client),
                    caller: Arc::clone(&caller),
                    admitted: Arc::clone(&admitted),
                    padding: padding.clone(),
                };
                tokio::spawn(task.answer(request, respond));
            }
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = &mut over => connection.abrupt_shutdown(Reason::NO_ERROR),
            () = admitted.told.notified() => is_to_be_told = true,
            () = sleep(ACKNOWLEDGED), if is_to_be_told => {
                is_to_be_told = connection.set_initial_window_size(STREAM_WINDOW).is_err();
            }
            _ = visit.tick(), if !admitted.is.load(Ordering::Relaxed) => {
                if !std::mem::take(&mut asked) && !connection.has_streams() {
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

/// Whether any request of a connection was by somebody who may.
#[derive(Default)]
struct Admission {
    is: AtomicBool,
    told: Notify,
}

/// One request.
struct Task {
    node: Arc<Node>,
    client: Arc<Client>,
    caller: Arc<Caller>,
    admitted: Arc<Admission>,
    padding: Wanted,
}

impl Task {
    async fn answer(self, request: Request<RecvStream>, respond: SendResponse<Segment>) {
        let (head, body) = request.into_parts();
        let is_query = is_name_query(&head);
        let is_map = served::is_asked(&head.method, head.uri.path());
        let is_speed = speed::is_asked(&head.method, head.uri.path()) && self.node.measuring.is_offered();
        if (head.method == Method::CONNECT || is_query || is_map || is_speed)
            && self.node.access.admits(&head.headers, &self.caller)
        {
            if let Some(grid) = padding_of(&head) {
                self.padding.set(grid);
            }
            if is_map && let Some(map) = served::answer(&self.node, &head.headers) {
                let _ = timeout(UNREAD, self.show(map, respond)).await;
                return;
            }
            if !self.admitted.is.swap(true, Ordering::Relaxed) {
                self.admitted.told.notify_one();
            }
            let Some(_held) = self.client.opens(&self.node.opens) else {
                return self.refuse(Failure::Limit, respond).await;
            };
            if is_query {
                return self.name(body, respond).await;
            }
            if is_speed {
                let measuring = Arc::clone(&self.node.measuring);
                return measuring.answer(&self.client, &head, body, respond).await;
            }
            return match head.extensions.get::<Protocol>() {
                None => self.connect(&head, body, respond).await,
                Some(protocol) if protocol.as_str() == "connect-udp" => {
                    self.datagrams(&head, body, respond).await;
                }
                Some(_) => self.refuse(Failure::Denied, respond).await,
            };
        }
        let shown = async {
            match &self.node.upstream {
                Some(upstream) => self.tell(upstream.fetch(&head, body).await, respond).await,
                None => self.show(self.page(&head), respond).await,
            }
        };
        let _ = timeout(UNREAD, shown).await;
    }

    fn page(&self, head: &Parts) -> Response<Bytes> {
        let named = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        self.node.pages.answer(&Visit {
            method: &head.method,
            target: head.uri.path_and_query().map_or("*", |path| path.as_str()),
            host: head.uri.host().or(named),
            secure: true,
            headers: &head.headers,
        })
    }

    /// What somebody else's web server says.
    async fn tell(&self, said: anyhow::Result<Response<Incoming>>, mut respond: SendResponse<Segment>) {
        let (head, mut body) = match said {
            Ok(response) => response.into_parts(),
            Err(error) => {
                tracing::debug!(%error, "the web server behind this node does not answer");
                return self.show(page::error(StatusCode::BAD_GATEWAY), respond).await;
            }
        };
        let is_empty = body.is_end_stream();
        let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), is_empty) else {
            return;
        };
        while let Some(frame) = body.frame().await {
            let part = frame.map(hyper::body::Frame::into_data);
            let Ok(Ok(part)) = part else {
                return stream.send_reset(Reason::INTERNAL_ERROR);
            };
            let Some(room) = self.client.room(part.len()).await else {
                return;
            };
            if relay::send(&mut stream, part, Arc::new(room)).await.is_err() {
                return;
            }
        }
        if !is_empty {
            let _ = stream.send_data(Segment::default(), true);
        }
    }

    async fn connect(&self, head: &Parts, body: RecvStream, mut respond: SendResponse<Segment>) {
        let Some(target) = target_of(head.uri.authority()) else {
            return self.refuse(Failure::Denied, respond).await;
        };
        let connected = tokio::select! {
            connected = dial::connect(&self.node, &target) => connected,
            // the client does not want it any more
            _ = std::future::poll_fn(|context| respond.poll_reset(context)) => return,
        };
        match connected {
            Ok(connection) => {
                self.node.status.counter("streams_opened").add(1);
                if let Ok(outgoing) = respond.send_response(Response::new(()), false) {
                    relay::carry(body, outgoing, connection, &self.client).await;
                }
            }
            Err(failure) => self.refuse(failure, respond).await,
        }
    }

    async fn datagrams(&self, head: &Parts, body: RecvStream, mut respond: SendResponse<Segment>) {
        let Ok(target) = Target::from_udp_path(head.uri.path()) else {
            return self.refuse(Failure::Denied, respond).await;
        };
        let socket = match dial::connect_udp(&self.node, &target).await {
            Ok(socket) => socket,
            Err(failure) => return self.refuse(failure, respond).await,
        };
        self.node.status.counter("streams_opened").add(1);
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert("capsule-protocol", http::HeaderValue::from_static("?1"));
        if let Ok(outgoing) = respond.send_response(response, false) {
            datagrams::carry(body, outgoing, socket, target.port, &self.client).await;
        }
    }

    async fn name(&self, body: RecvStream, respond: SendResponse<Segment>) {
        let answered = match (self.node.resolver, whole(body).await) {
            // only an exit knows names
            (Some(resolver), Some(question)) if self.node.rules.is_exit() => {
                dns_query::ask(resolver, &question).await
            }
            _ => Err(Failure::Denied),
        };
        match answered {
            Ok(answer) => {
                self.show(page::respond(StatusCode::OK, DNS_MESSAGE, answer), respond)
                    .await;
            }
            Err(failure) => self.refuse(failure, respond).await,
        }
    }

    async fn refuse(&self, failure: Failure, respond: SendResponse<Segment>) {
        self.node.status.counter("streams_refused").add(1);
        self.show(refusal(failure), respond).await;
    }

    async fn show(&self, response: Response<Bytes>, mut respond: SendResponse<Segment>) {
        let (head, mut content) = response.into_parts();
        let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), content.is_empty()) else {
            return;
        };
        if content.is_empty() {
            return;
        }
        while !content.is_empty() {
            let part = content.split_to(content.len().min(PART));
            let Some(room) = self.client.room(part.len()).await else {
                return;
            };
            let sent = relay::send_last(&mut stream, part, Arc::new(room), content.is_empty()).await;
            if sent.is_err() {
                return;
            }
        }
    }
}

pub(crate) const DNS_MESSAGE: &str = "application/dns-message";

/// `POST /dns-query` (RFC 8484).
pub fn is_name_query(head: &Parts) -> bool {
    head.method == Method::POST
        && head.uri.path() == "/dns-query"
        && head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == DNS_MESSAGE)
}

/// What a client wants our words to be filled up to.
fn padding_of(head: &Parts) -> Option<Grid> {
    Grid::parse(head.headers.get(padding::HEADER)?.to_str().ok()?)
}

/// Says why, as RFC 9209 words it.
pub fn refusal(failure: Failure) -> Response<Bytes> {
    let mut response = page::error(failure.status());
    if let Ok(status) = failure.proxy_status().try_into() {
        response.headers_mut().insert("proxy-status", status);
    }
    response
}

/// Host and port of `CONNECT`; nothing else may be there.
pub fn target_of(authority: Option<&http::uri::Authority>) -> Option<Target> {
    authority?.as_str().parse().ok()
}

async fn whole(mut body: RecvStream) -> Option<Bytes> {
    let mut message = BytesMut::new();
    let read = async {
        while let Some(part) = body.data().await {
            let part = part.ok()?;
            if message.len() + part.len() > dns_query::LARGEST {
                return None;
            }
            body.flow_control().release_capacity(part.len()).ok()?;
            message.extend_from_slice(&part);
        }
        Some(())
    };
    timeout(Duration::from_secs(10), read).await.ok()??;
    Some(message.freeze())
}
