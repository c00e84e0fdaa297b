//! What a client shows to nodes, so that they carry for it.

use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use gate17_proto::{
    access::{EXPORTED, EXPORTER_LABEL, Origin, concealed, exporter_context},
    map::{Node, PublicKey, public},
};
use http::HeaderValue;
use rustls::ClientConnection;

/// See the module's head.
#[derive(Clone, Debug)]
pub enum Shown {
    /// Nothing: everybody is welcome.
    Nothing,
    /// The same to all of them.
    Token(HeaderValue),
    /// That we have a key (RFC 9729); another proof on each connection, worth nothing on any other.
    Key(Arc<Ed25519KeyPair>, PublicKey),
}

impl Shown {
    /// A bearer token.
    ///
    /// # Errors
    /// Where no header may have its octets.
    pub fn token(token: &str) -> Result<Self, String> {
        let value = format!("Bearer {token}").parse();
        value
            .map(Self::Token)
            .map_err(|_| "the token has octets that no header may have".to_owned())
    }

    /// A key.
    ///
    /// # Errors
    /// Where it has no public half.
    pub fn key(key: Arc<Ed25519KeyPair>) -> Result<Self, String> {
        let public = public(&key).ok_or("the key has no public half")?;
        Ok(Self::Key(key, public))
    }

    /// The header's value on this connection.
    ///
    /// # Errors
    /// Where TLS is not there yet.
    pub fn on(&self, connection: &ClientConnection, node: &Node) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::Nothing => Ok(None),
            Self::Token(value) => Ok(Some(value.clone())),
            Self::Key(key, public) => {
                let context = exporter_context(public, origin(node));
                let exported = connection
                    .export_keying_material([0; EXPORTED], EXPORTER_LABEL, Some(&context))
                    .map_err(|error| format!("prove the key: {error}"))?;
                let value = concealed(key, &exported).and_then(|value| value.parse().ok());
                value
                    .map(Some)
                    .ok_or_else(|| "the key cannot be proved".to_owned())
            }
        }
    }
}

/// That requests name: a node's name, or `localhost` where it has none; always port 443 (RFC 9110, section 4.3.1).
fn origin(node: &Node) -> Origin<'_> {
    Origin {
        scheme: "https",
        host: if node.name.is_empty() {
            "localhost"
        } else {
            &node.name
        },
        port: 443,
        realm: "",
    }
}

#[cfg(test)]
mod tests {
    use gate17_maps::testing::map;
    use gate17_proto::{
        access::{claimed, proves},
        map::KeyPin,
    };
    use rustls::{
        ServerConfig, ServerConnection,
        crypto::aws_lc_rs::default_provider,
        pki_types::{PrivateKeyDer, ServerName},
    };
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::pinned;

    /// A node with a key of its own, and its pin.
    fn node() -> (ServerConnection, KeyPin) {
        let key = rcgen::KeyPair::generate().unwrap();
        let pin = {
            use rcgen::PublicKeyData as _;
            KeyPin(Sha256::digest(key.subject_public_key_info()).into())
        };
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            );
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        (ServerConnection::new(Arc::new(config)).unwrap(), pin)
    }

    fn greet(pin: KeyPin, server: &mut ServerConnection) -> Result<ClientConnection, rustls::Error> {
        let config = pinned::config(vec![pin], false)?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut octets = Vec::new();
            client.write_tls(&mut octets).unwrap();
            server.read_tls(&mut octets.as_slice()).unwrap();
            server.process_new_packets()?;
            octets.clear();
            server.write_tls(&mut octets).unwrap();
            client.read_tls(&mut octets.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client)
    }

    #[test]
    fn a_key_is_proved_to_the_node_that_it_is_shown_to_and_to_no_other() {
        let key = Arc::new(Ed25519KeyPair::generate().unwrap());
        let shown = Shown::key(key).unwrap();
        let Shown::Key(_, public) = &shown else {
            panic!("it is a key")
        };
        let place = &map(1).nodes[0];
        let exported = |server: &ServerConnection| {
            let context = exporter_context(public, origin(place));
            server
                .export_keying_material([0; EXPORTED], EXPORTER_LABEL, Some(&context))
                .unwrap()
        };
        let (mut server, pin) = node();
        let client = greet(pin, &mut server).unwrap();
        let value = shown.on(&client, place).unwrap().unwrap();
        let value = value.to_str().unwrap();
        assert_eq!(claimed(value, &[*public]), Some(*public));
        assert!(proves(value, public, &exported(&server)));
        let (mut other, pin) = node();
        greet(pin, &mut other).unwrap();
        assert!(
            !proves(value, public, &exported(&other)),
            "who is shown it cannot show it to others"
        );
    }

    #[test]
    fn who_has_another_key_is_not_believed() {
        let (mut server, _) = node();
        let refused = greet(KeyPin([7; 32]), &mut server).unwrap_err();
        assert!(
            matches!(refused, rustls::Error::InvalidCertificate(_)),
            "{refused}"
        );
    }
}
