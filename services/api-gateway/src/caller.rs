//! Whose a connection is: by the kernel's word about the socket at its other end (`sock_diag(7)`), never by what is said in it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use api::v1::{Access, Scope};
use netlink::diag::Diag;
use proto::{
    convert::octets,
    flow::v1 as flow,
    resolver::v1::{LookupRequest, lookup_request::Subject, process_resolver_client::ProcessResolverClient},
};
use tokio::{net::TcpStream, sync::OnceCell};
use tonic::transport::Channel;
use verdict::{Direction, Endpoint, Flow, Protocol};

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// His socket.
    pub address: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// Owner of his socket; unknown where it is closed already.
    pub uid: Option<u32>,
    process: OnceCell<Option<flow::Process>>,
}

impl Peer {
    /// As the kernel says.
    pub fn new(address: SocketAddr, local: SocketAddr, uid: Option<u32>) -> Self {
        Self {
            address,
            local,
            uid,
            process: OnceCell::new(),
        }
    }

    /// His process, asked for once, when somebody wants to know.
    pub async fn process(&self, resolver: &Channel) -> Option<&flow::Process> {
        let asked = async {
            let flow = flow::Flow {
                direction: flow::Direction::Outgoing.into(),
                protocol: 6,
                local_address: octets(self.address.ip()),
                local_port: self.address.port().into(),
                remote_address: octets(self.local.ip()),
                remote_port: self.local.port().into(),
            };
            let request = LookupRequest {
                subject: Some(Subject::Flow(flow)),
                hash: false,
            };
            let reply = ProcessResolverClient::new(resolver.clone()).lookup(request).await;
            reply.ok().and_then(|reply| reply.into_inner().process)
        };
        self.process.get_or_init(|| asked).await.as_ref()
    }
}

/// Finds owners of sockets.
#[derive(Debug)]
pub struct Owners(Mutex<Diag>);

impl Owners {
    /// In this network namespace.
    ///
    /// # Errors
    /// Where the kernel gives no socket for questions.
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self(Mutex::new(Diag::open()?)))
    }

    /// Who is at the other end of a connection that was accepted just now.
    ///
    /// Invariant: the answer is about this very connection. Its four numbers may be somebody else's as soon as it has ended, and
    /// what was sent over it can still be read then; so it must still be there *after* the question.
    pub fn peer(&self, stream: &TcpStream, address: SocketAddr) -> std::io::Result<Peer> {
        let local = stream.local_addr()?;
        let end = |address: SocketAddr| Endpoint::new(address.ip(), address.port());
        let flow = Flow {
            direction: Direction::Outgoing,
            protocol: Protocol::TCP,
            local: end(address),
            remote: end(local),
        };
        let found = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .find_connected(&flow);
        // ENOTCONN once it was reset (inet_getname)
        stream.peer_addr()?;
        Ok(Peer::new(address, local, found.map(|found| found.uid)))
    }
}

/// Who calls, and as what.
#[derive(Clone, Debug)]
pub struct Caller {
    /// At the other end.
    pub peer: Arc<Peer>,
    /// The token that he showed: name and scope.
    pub token: Option<(String, Scope)>,
    /// The most that he may do without asking anybody.
    pub level: Access,
}

/// What `scope` lets do.
pub const fn level_of(scope: Scope) -> Access {
    match scope {
        Scope::Admin => Access::Admin,
        Scope::Decide => Access::Decide,
        Scope::Read => Access::Read,
        Scope::Unspecified => Access::Anybody,
    }
}
