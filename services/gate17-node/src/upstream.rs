//! An operator's own web server, which answers whoever has no leave for anything else.

use std::{convert::Infallible, io, str::FromStr, time::Duration};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderName, Request, Response, Uri, header, request::Parts};
use http_body_util::StreamBody;
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Host and port, `http` alone: it is next to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream(String);

/// An address that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address of a web server; give one as http://127.0.0.1:8080")]
pub struct NoUpstream;

const PATIENCE: Duration = Duration::from_secs(60);
/// RFC 9110, section 7.6.1: of one connection alone.
const OF_CONNECTIONS: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

impl FromStr for Upstream {
    type Err = NoUpstream;

    fn from_str(text: &str) -> Result<Self, NoUpstream> {
        let uri: Uri = text.parse().map_err(|_| NoUpstream)?;
        let is_plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().filter(|_| is_plain).ok_or(NoUpstream)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(NoUpstream);
        }
        Ok(Self(format!(
            "{}:{}",
            authority.host(),
            authority.port_u16().unwrap_or(80)
        )))
    }
}

impl Upstream {
    /// A connection of one visitor's own.
    ///
    /// # Errors
    /// Where nobody answers.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let connected = timeout(PATIENCE, TcpStream::connect(&self.0)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The answer to one request that came by HTTP/2.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn fetch(&self, head: &Parts, body: RecvStream) -> anyhow::Result<Response<Incoming>> {
        let io = TokioIo::new(self.connect().await?);
        let (mut send, connection) = http1::Builder::new()
            .title_case_headers(true)
            .handshake(io)
            .await?;
        tokio::spawn(connection);
        let request = told_on(head, body)?;
        let mut response = timeout(PATIENCE, send.send_request(request)).await??;
        for name in &OF_CONNECTIONS {
            response.headers_mut().remove(name);
        }
        Ok(response)
    }
}

type Told =
    StreamBody<std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

fn told_on(head: &Parts, body: RecvStream) -> anyhow::Result<Request<Told>> {
    let mut request = Request::builder()
        .method(head.method.clone())
        .uri(head.uri.path_and_query().map_or("/", |path| path.as_str()));
    if let Some(authority) = head.uri.authority() {
        request = request.header(header::HOST, authority.as_str());
    }
    for (name, value) in &head.headers {
        if !OF_CONNECTIONS.contains(name) && (name != header::HOST || head.uri.authority().is_none()) {
            request = request.header(name, value);
        }
    }
    let is_empty = body.is_end_stream();
    let parts = futures_util::stream::unfold(body, async |mut body| {
        let octets = body.data().await?.ok()?;
        body.flow_control().release_capacity(octets.len()).ok()?;
        Some((Ok(Frame::data(octets)), body))
    });
    let parts: std::pin::Pin<Box<dyn futures_util::Stream<Item = _> + Send>> = if is_empty {
        Box::pin(futures_util::stream::empty())
    } else {
        Box::pin(parts)
    };
    if is_empty {
        // without it, nothing would be sent as a body in pieces
        request = request.header(header::CONTENT_LENGTH, "0");
    }
    Ok(request.body(StreamBody::new(parts))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_plain_web_server() {
        let read = |text: &str| text.parse::<Upstream>().map(|upstream| upstream.0);
        assert_eq!(read("http://127.0.0.1:8080"), Ok("127.0.0.1:8080".to_owned()));
        assert_eq!(read("http://[::1]/"), Ok("[::1]:80".to_owned()));
        for text in [
            "",
            "127.0.0.1:80",
            "https://x",
            "http://x/a",
            "http://u@x",
            "http://",
        ] {
            assert_eq!(read(text), Err(NoUpstream), "{text}");
        }
    }
}
