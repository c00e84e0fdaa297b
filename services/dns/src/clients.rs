//! Who asks: from the address that a query came from to the program that holds that socket.
//!
//! Invariant: a program is known by its socket, and no query is answered by what was known of a socket before the query was
//! received: whoever binds the port of one that is gone is somebody else. A look costs a microsecond or two; queries that one
//! system call received are answered by one look at each socket, which comes after that call ([`Seen`]).

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
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
    /// Who it is could not be found out this time: its socket is closed already, or somebody who knows did not say.
    pub is_unsure: bool,
    /// In the policy of this version.
    profile: Mutex<Option<(u64, ProfileRef)>>,
    account: OnceLock<u64>,
}

impl Asker {
    /// See the fields.
    pub fn new(process: Option<Arc<Process>>, uid: Option<u32>, redirected: bool) -> Self {
        Self {
            process,
            uid,
            redirected,
            is_unsure: false,
            profile: Mutex::default(),
            account: OnceLock::new(),
        }
    }

    /// On whose account its questions are asked: its program's, which may be many processes, each user's for itself.
    pub fn account(&self) -> u64 {
        *self.account.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            let program = self.process.as_ref().map(|process| &process.executable.path);
            (self.uid, program).hash(&mut hasher);
            hasher.finish()
        })
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

/// What was found out of the sockets behind queries that were received at once; for no others.
#[derive(Debug, Default)]
pub struct Seen(Vec<(Client, Look)>);

/// One look at a socket.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// None where the kernel knows no such socket, as for one that asked another server.
    found: Option<Found>,
    /// Whose it is, where that is known already.
    pub asker: Option<Arc<Asker>>,
}

impl Seen {
    /// Other queries are received from now on.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

static NOTHING: Look = Look {
    found: None,
    asker: None,
};

impl Look {
    /// On whose account a query waits: its user's, and of his control group's (a service, an application of a desktop), as
    /// far as the kernel says so at once.
    pub fn account(&self) -> Account {
        let nobody = Account {
            user: u64::MAX,
            group: 0,
        };
        self.found.map_or(nobody, |socket| Account {
            user: socket.uid.into(),
            group: socket.cgroup_id,
        })
    }
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

    /// Looks at the socket that a query came from, and says whose it is where that is known already and is so still.
    pub fn look(&self, client: &Client) -> Look {
        let known = self.known.get(&(client.protocol, client.address));
        let server = known.as_ref().map_or(client.server, |known| known.server);
        let found = socket(client, server);
        let is_same =
            |known: &Arc<Known>| found.is_some_and(|now| now.inode == known.inode && now.uid == known.uid);
        Look {
            found,
            asker: known.filter(is_same).map(|known| Arc::clone(&known.asker)),
        }
    }

    /// The same once for all queries that were received at once.
    pub fn look_once<'a>(&self, client: &Client, Seen(seen): &'a mut Seen) -> &'a Look {
        let known = seen.iter().position(|(of, _)| of == client);
        let at = known.unwrap_or_else(|| {
            seen.push((*client, self.look(client)));
            seen.len() - 1
        });
        // there is one at that place
        seen.get(at).map_or(&NOTHING, |(_, look)| look)
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
        let is_unsure = owner.process.is_none() && (!owner.is_said || before.is_none());
        let asker = Arc::new(Asker {
            is_unsure,
            ..Asker::new(owner.process, uid, redirected)
        });
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

    #[test]
    fn who_was_known_is_looked_at_again_for_queries_that_come_later() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        first.connect(server.local_addr().unwrap()).unwrap();
        let client = Client {
            protocol: Protocol::UDP,
            address: first.local_addr().unwrap(),
            server: server.local_addr().unwrap(),
        };
        let clients = Clients::new(Attribution::default(), Link::default());
        let found = socket(&client, client.server).unwrap();
        let known = Known {
            inode: found.inode,
            uid: found.uid,
            server: client.server,
            asker: Arc::default(),
        };
        let asker = Arc::clone(&known.asker);
        clients
            .known
            .insert((client.protocol, client.address), Arc::new(known));
        let mut seen = Seen::default();
        let is_known = |seen: &mut Seen| {
            let look = clients.look_once(&client, seen);
            look.asker.as_ref().is_some_and(|who| Arc::ptr_eq(who, &asker))
        };
        assert!(is_known(&mut seen));
        drop(first);
        let _other = UdpSocket::bind(client.address).unwrap();
        assert!(
            is_known(&mut seen),
            "what came before its socket was closed is his"
        );
        seen.forget();
        assert!(!is_known(&mut seen), "and what comes later is another's");
        assert_ne!(clients.look(&client).account().user, u64::MAX);
    }
}
