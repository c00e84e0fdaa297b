//! Questions that HTTP/2, HTTP/3 or QUIC carries, one stream of the connection each; hickory speaks the protocols.

use std::{net::SocketAddr, sync::Arc};

use futures_util::StreamExt;
use hickory_net::{
    h2::HttpsClientStream,
    h3::H3ClientStream,
    quic::QuicClientStream,
    runtime::TokioRuntimeProvider,
    xfer::{DnsRequestSender, DnsResponseStream},
};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message};
use rustls::ClientConfig;

use super::{
    definition::{Definition, Transport},
    message::{self, Match},
    trouble::Trouble,
};

/// A connection in use; a clone is another handle of the same.
#[derive(Clone)]
pub(crate) enum Carried {
    Https(HttpsClientStream),
    H3(H3ClientStream),
    Quic(QuicClientStream),
}

impl Carried {
    /// Connects to one address; the server proves its name, or nothing is asked.
    pub(crate) async fn dial(
        server: &Definition,
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, Trouble> {
        let (name, path) = (Arc::clone(&server.name), Arc::clone(&server.path));
        Ok(match server.transport {
            Transport::H3 => {
                let builder = H3ClientStream::builder().crypto_config((*tls).clone());
                Self::H3(Box::pin(builder.build(address, name, path)).await?)
            }
            Transport::Quic => {
                let builder = QuicClientStream::builder().crypto_config((*tls).clone());
                Self::Quic(Box::pin(builder.build(address, name)).await?)
            }
            _ => {
                let builder = HttpsClientStream::builder(tls, TokioRuntimeProvider::default());
                Self::Https(Box::pin(builder.build(address, name, path)).await?)
            }
        })
    }

    /// Asks; the id of the query is 0 (RFC 8484 §4.1, RFC 9250 §4.2.1).
    pub(crate) async fn exchange(&self, query: &[u8]) -> Result<Vec<u8>, Trouble> {
        let request = Message::from_vec(query).map_err(Trouble::nonsense)?;
        let request = DnsRequest::new(request, DnsRequestOptions::default());
        let mut answers = self.clone().send(request);
        let answer = answers
            .next()
            .await
            .ok_or_else(|| Trouble::io("the connection was closed"))??;
        let answer = answer.into_buffer();
        match message::matches(query, &answer) {
            Match::Answer | Match::Case => Ok(answer),
            other => Err(Trouble::nonsense(format_args!(
                "the answer does not fit the question ({other:?})"
            ))),
        }
    }

    fn send(mut self, request: DnsRequest) -> DnsResponseStream {
        match &mut self {
            Self::Https(stream) => stream.send_message(request),
            Self::H3(stream) => stream.send_message(request),
            Self::Quic(stream) => stream.send_message(request),
        }
    }
}
