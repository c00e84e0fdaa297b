//! HTTP/1.1: `CONNECT` for clients that speak nothing newer, names and pages; in the clear, pages and the way to TLS
//! (RFC 2817).

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::TcpStream,
};

use crate::{
    dial::{self, Failure},
    dns_query, door,
    limits::{Client, Held, Kind},
    node::Node,
    page,
    tunnel::{DNS_MESSAGE, is_name_query, refusal, target_of},
};

const HEADERS: usize = 16 << 10;
const BUFFER: usize = 64 << 10;

/// What a caller came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TLS.
    Secure,
    /// In the clear, where that is expected.
    Clear,
    /// In the clear, where TLS is expected.
    Mistaken,
}

struct Visit {
    node: Arc<Node>,
    client: Arc<Client>,
    way: Way,
}

/// Serves one connection to its end. A caller is through the door with the first request.
pub async fn serve<I>(io: I, node: Arc<Node>, client: Arc<Client>, handshake: Held, way: Way)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let drain = node.drain_token();
    let (time, limit) = (node.handshake_time(), node.drain_time());
    let visit = Arc::new(Visit { node, client, way });
    let handshake = std::sync::Mutex::new(Some(handshake));
    let service = service_fn(move |request| {
        drop(handshake.lock().map(|mut held| held.take()));
        let visit = Arc::clone(&visit);
        async move { Ok::<_, Infallible>(visit.answer(request).await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(time)
        .max_buf_size(HEADERS)
        .half_close(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(limit, connection).await;
}

impl Visit {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Bytes> {
        match self.way {
            Way::Mistaken => return page::error(StatusCode::BAD_REQUEST),
            Way::Clear if wants_tls(request.headers()) => return self.secure(request),
            Way::Clear => {}
            Way::Secure
                if request.method() == Method::CONNECT && self.node.access.admits(request.headers()) =>
            {
                return self.connect(request).await;
            }
            Way::Secure => {
                let (head, body) = request.into_parts();
                if is_name_query(&head) && self.node.access.admits(&head.headers) {
                    return self.name(body).await;
                }
                return self.node.pages.answer(&head.method, head.uri.path());
            }
        }
        self.node.pages.answer(request.method(), request.uri().path())
    }

    async fn connect(self: Arc<Self>, request: Request<Incoming>) -> Response<Bytes> {
        let Some(held) = self.client.take(Kind::Stream) else {
            return self.refuse(Failure::Limit);
        };
        let Some(target) = target_of(request.uri().authority()) else {
            return self.refuse(Failure::Denied);
        };
        match dial::connect(&self.node, &target).await {
            Ok(connection) => {
                self.node.status.counter("streams_opened").add(1);
                tokio::spawn(carry(request, connection, held, Arc::clone(&self)));
                Response::new(Bytes::new())
            }
            Err(failure) => self.refuse(failure),
        }
    }

    async fn name(&self, body: Incoming) -> Response<Bytes> {
        let Some(_held) = self.client.take(Kind::Stream) else {
            return self.refuse(Failure::Limit);
        };
        let whole = Limited::new(body, dns_query::LARGEST).collect();
        let whole = tokio::time::timeout(self.node.handshake_time(), whole).await;
        let answered = match (self.node.resolver, whole) {
            (Some(resolver), Ok(Ok(question))) if self.node.rules.is_exit() => {
                dns_query::ask(resolver, &question.to_bytes()).await
            }
            _ => Err(Failure::Denied),
        };
        match answered {
            Ok(answer) => page::respond(StatusCode::OK, DNS_MESSAGE, answer),
            Err(failure) => self.refuse(failure),
        }
    }

    fn refuse(&self, failure: Failure) -> Response<Bytes> {
        self.node.status.counter("streams_refused").add(1);
        refusal(failure)
    }

    /// TLS on this very connection, once it is said.
    fn secure(self: Arc<Self>, request: Request<Incoming>) -> Response<Bytes> {
        let Some(held) = self.client.take(Kind::Handshake) else {
            return page::error(StatusCode::SERVICE_UNAVAILABLE);
        };
        let (node, client) = (Arc::clone(&self.node), Arc::clone(&self.client));
        tokio::spawn(async move {
            if let Ok(upgraded) = hyper::upgrade::on(request).await {
                door::secure(TokioIo::new(upgraded), node, client, held).await;
            }
        });
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("TLS/1.3, HTTP/1.1"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        response
    }
}

async fn carry(request: Request<Incoming>, mut connection: TcpStream, _held: Held, visit: Arc<Visit>) {
    let Ok(upgraded) = hyper::upgrade::on(request).await else {
        return;
    };
    let Some(_room) = visit.client.room(2 * BUFFER).await else {
        return;
    };
    let mut upgraded = TokioIo::new(upgraded);
    let copy = copy_bidirectional_with_sizes(&mut upgraded, &mut connection, BUFFER, BUFFER);
    let drain = visit.node.drain_token();
    let over = async {
        drain.cancelled().await;
        tokio::time::sleep(visit.node.drain_time()).await;
    };
    tokio::select! {
        _ = copy => {}
        () = over => {}
    }
}

/// `Upgrade: TLS/1.3`, of which `Connection` says that it is meant.
fn wants_tls(headers: &HeaderMap) -> bool {
    let says = |name, wanted: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    says(header::UPGRADE, "TLS/1.3") && says(header::CONNECTION, "upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_tls_is_asked_for_in_two_headers() {
        for (upgrade, connection, wanted) in [
            ("TLS/1.3", "Upgrade", true),
            ("h2c, tls/1.3", "keep-alive, upgrade", true),
            ("TLS/1.2", "Upgrade", false),
            ("TLS/1.3", "close", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::UPGRADE, upgrade.parse().unwrap());
            headers.insert(header::CONNECTION, connection.parse().unwrap());
            assert_eq!(wants_tls(&headers), wanted, "{upgrade} {connection}");
        }
    }
}
