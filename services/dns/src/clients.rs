//! Who asks: from the address that a query came from to the program that holds that socket.
//!
//! Invariant: a program is known by its socket, and the socket is looked at for every query (a microsecond): whoever binds
//! the port of one that is gone is somebody else.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use netlink::diag::{Diag, Found};
use verdict::{
    Direction, Endpoint, Flow, Process, Protocol,
    policy::{CompiledPolicy, ProfileRef},
};

use crate::{
    attribution::Attribution,
    link::Link,
    server::{Account, Flights},
};

/// Sockets that are remembered at once.
const MOST: u64 = 16_384;
/// A process may become another program (exec) and keep its socket.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Where a query came from, and where it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Of the one who asks.
    pub address: SocketAddr,
    /// Ours.
    pub server: SocketAddr,
}

/// Who asks.
#[derive(Debug, Default)]
pub struct Asker {
    /// None where it is not known.
    pub process: Option<Arc<Process>>,
    /// The socket's owner, where known.
    pub uid: Option<u32>,
    /// It asked another server, and was sent to us.
    pub redirected: bool,
    /// In the policy of this version.
    profile: Mutex<Option<(u64, ProfileRef)>>,
}

impl Asker {
    /// See the fields.
    pub fn new(process: Option<Arc<Process>>, uid: Option<u32>, redirected: bool) -> Self {
        Self {
            process,
            uid,
            redirected,
            profile: Mutex::default(),
        }
    }

    /// On whose account its questions are asked: its program's, which may be many processes, each user's for itself.
    pub fn account(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let program = self.process.as_ref().map(|process| &process.executable.path);
        (self.uid, program).hash(&mut hasher);
        hasher.finish()
    }

    /// Its profile in this policy; found once.
    pub fn profile(&self, policy: &CompiledPolicy) -> ProfileRef {
        let mut known = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((version, profile)) if version == policy.version() => profile,
            _ => {
                let profile = policy.profile_for(self.process.as_deref());
                *known = Some((policy.version(), profile));
                profile
            }
        }
    }
}

#[derive(Debug)]
struct Known {
    inode: u64,
    uid: u32,
    /// The other end, as the client's socket has it.
    server: SocketAddr,
    asker: Arc<Asker>,
}

thread_local! {
    /// Each thread asks the kernel for itself. None where the kernel does not answer such questions.
    static DIAG: RefCell<Option<Diag>> = RefCell::new(Diag::open().ok());
}

/// Clones are the same.
#[derive(Clone, Debug)]
pub struct Clients {
    known: Cache<(Protocol, SocketAddr), Arc<Known>>,
    /// Who is being found: many queries of one socket come at once. By its inode, so that nobody is taken for the one who
    /// had the port before him.
    finding: Arc<Flights<(Client, u64), Arc<Asker>>>,
    attribution: Attribution,
    link: Link,
}

impl Clients {
    /// See the fields.
    pub fn new(attribution: Attribution, link: Link) -> Self {
        Self {
            known: Cache::builder()
                .max_capacity(MOST)
                .time_to_live(REMEMBERED)
                .build(),
            finding: Arc::default(),
            attribution,
            link,
        }
    }

    /// Who it is, where that is known already and is so still.
    pub fn quick(&self, client: &Client) -> Option<Arc<Asker>> {
        let known = self.known.get(&(client.protocol, client.address))?;
        let now = socket(client, known.server)?;
        (now.inode == known.inode && now.uid == known.uid).then(|| Arc::clone(&known.asker))
    }

    /// On whose account a query waits: its user's, and of his control group's (a service, an application of a desktop), as
    /// far as the kernel says so at once.
    pub fn account(&self, client: &Client) -> Account {
        let known = self.known.get(&(client.protocol, client.address));
        let server = known.map_or(client.server, |known| known.server);
        let nobody = Account {
            user: u64::MAX,
            group: 0,
        };
        socket(client, server).map_or(nobody, |socket| Account {
            user: socket.uid.into(),
            group: socket.cgroup_id,
        })
    }

    /// Finds out who it is. `hash`: a profile matches by executables' hashes. `traceparent`: of the query, where it is traced.
    pub async fn find(&self, client: &Client, hash: bool, traceparent: &str) -> Arc<Asker> {
        let Some(socket) = socket(client, client.server).filter(|socket| socket.inode != 0) else {
            return self.search(client, hash, traceparent).await;
        };
        let ask = || {
            let (clients, client, traceparent) = (self.clone(), *client, traceparent.to_owned());
            async move { clients.search(&client, hash, &traceparent).await }
        };
        self.finding.share(&(*client, socket.inode), ask).await
    }

    async fn search(&self, client: &Client, hash: bool, traceparent: &str) -> Arc<Asker> {
        let (server, redirected) = match socket(client, client.server) {
            // a redirected query keeps the address that it would have gone out by
            Some(_) => (client.server, !client.address.ip().is_loopback()),
            None => {
                let asked = self
                    .link
                    .origin(client.protocol, client.address, client.server)
                    .await;
                (
                    asked.unwrap_or(client.server),
                    asked.is_some_and(|asked| asked != client.server),
                )
            }
        };
        let before = socket(client, server);
        let owner = self
            .attribution
            .owner(flow(client, server), hash, traceparent.to_owned())
            .await;
        let uid = owner.uid.or(before.map(|socket| socket.uid));
        let asker = Arc::new(Asker::new(owner.process, uid, redirected));
        // remembered only where the socket stayed the same meanwhile, and its holder was found
        let after =
            socket(client, server).filter(|after| Some(after.inode) == before.map(|before| before.inode));
        if let Some(socket) = after.filter(|socket| socket.inode != 0 && asker.process.is_some()) {
            let known = Known {
                inode: socket.inode,
                uid: socket.uid,
                server,
                asker: Arc::clone(&asker),
            };
            self.known
                .insert((client.protocol, client.address), Arc::new(known));
        }
        asker
    }
}

fn socket(client: &Client, server: SocketAddr) -> Option<Found> {
    let flow = flow(client, server);
    DIAG.with_borrow_mut(|diag| diag.as_mut()?.find(&flow))
}

/// As the client's socket has it.
fn flow(client: &Client, server: SocketAddr) -> Flow {
    let end = |address: SocketAddr| Endpoint::new(address.ip().to_canonical(), address.port());
    Flow {
        direction: Direction::Outgoing,
        protocol: client.protocol,
        local: end(client.address),
        remote: end(server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_socket_is_seen_and_another_with_its_port_is_another() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ask = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(server.local_addr().unwrap()).unwrap();
            socket
        };
        let first = ask();
        let client = Client {
            protocol: Protocol::UDP,
            address: first.local_addr().unwrap(),
            server: server.local_addr().unwrap(),
        };
        let seen = socket(&client, client.server).unwrap();
        assert_eq!(socket(&client, client.server), Some(seen));
        drop(first);
        assert_eq!(socket(&client, client.server), None);
        let again = UdpSocket::bind(client.address).unwrap();
        assert_ne!(socket(&client, client.server).unwrap().inode, seen.inode);
        drop(again);
    }
}
