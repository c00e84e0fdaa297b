//! The stream from the DNS service: what it told to whom comes in before its answer goes out, and it asks which server a
//! redirected client had meant.
//!
//! The interceptor calls, and is not called: a socket of its own that others knock at would start it again when its owner
//! has stopped it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use daemon::{grpc, status::Status};
use proto::convert::octets;
use proto::interceptor::v1::{
    FromDns, OriginAnswer, OriginQuestion, ToDns, Told, from_dns, names_client::NamesClient, to_dns::Said,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use verdict::{Endpoint, Protocol};

use crate::{
    arrival::appears,
    conntrack::{Conntrack, Tuple},
    told::{Aside, Heard, Names, address},
};

/// Names that are over are forgotten so often.
const TIDY: Duration = Duration::from_secs(60);

/// Names in one message.
const BATCH: usize = 512;

/// Follows the DNS service.
#[derive(Debug)]
pub struct Follower {
    names: Names,
    conntrack: Conntrack,
    mark: ServedMark,
}

impl Follower {
    /// `state`: the service's folder. Where a DNS server was there since this host was started, it is there still.
    pub fn new(names: Names, conntrack: Conntrack, state: &Path) -> Self {
        let mark = ServedMark::new(state);
        if mark.is_of_this_boot() {
            names.serve();
        }
        Self {
            names,
            conntrack,
            mark,
        }
    }

    /// Listens at `socket` until `shutdown`; as long as there is none, this host has no DNS service of ours.
    pub async fn run(mut self, socket: &Path, status: Status, shutdown: CancellationToken) {
        if shutdown.run_until_cancelled(appears(socket)).await.is_none() {
            return;
        }
        let channel = grpc::channel(socket);
        let answers: Arc<Mutex<Option<mpsc::UnboundedSender<ToDns>>>> = Arc::default();
        let (names, mark) = (&self.names, &self.mark);
        let connect = || {
            let (channel, answers) = (channel.clone(), Arc::clone(&answers));
            async move {
                let (sender, receiver) = mpsc::unbounded_channel();
                let opened = NamesClient::new(channel)
                    .exchange(UnboundedReceiverStream::new(receiver))
                    .await?;
                give_back(names, &sender);
                *answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
                served(names, mark);
                Ok(opened.into_inner())
            }
        };
        let counter = status.counter("names_told");
        let conntrack = &mut self.conntrack;
        let followed = grpc::follow("dns", shutdown, connect, |message: FromDns| {
            let answer = match message.said {
                Some(from_dns::Said::Told(told)) => {
                    counter.add(told.names.len().try_into().unwrap_or(u64::MAX));
                    told.names
                        .into_iter()
                        .for_each(|name| names.hear(&Heard::from(name), told.again));
                    Said::Acknowledged(told.sequence)
                }
                Some(from_dns::Said::Origin(question)) => Said::Origin(origin(conntrack, &question)),
                Some(from_dns::Said::Aside(aside)) => {
                    match Aside::open(&aside.name, counter.clone()) {
                        Ok(aside) => names.listen(aside),
                        Err(error) => {
                            tracing::warn!(%error, "the DNS service waits for each name to be heard");
                        }
                    }
                    return;
                }
                // a newer DNS service says more
                None => return,
            };
            if let Some(answers) = &*answers.lock().unwrap_or_else(PoisonError::into_inner) {
                // whoever asked may be gone
                let _ = answers.send(ToDns { said: Some(answer) });
            }
        });
        tokio::select! {
            () = followed => {}
            () = names.keep_up() => {}
        }
    }
}

/// A DNS service that was killed has forgotten what it told last.
fn give_back(names: &Names, answers: &mpsc::UnboundedSender<ToDns>) {
    let known = names.known();
    for names in known.chunks(BATCH) {
        let told = Told {
            names: names.to_vec(),
            ..Told::default()
        };
        // a stream that is over already is opened anew
        let _ = answers.send(ToDns {
            said: Some(Said::Known(told)),
        });
    }
}

fn served(names: &Names, mark: &ServedMark) {
    if !names.is_served() {
        tracing::info!("a local DNS server is there: queries to other servers are sent to it");
        names.serve();
    }
    if let Err(error) = mark.set() {
        tracing::warn!(%error, "after a restart, queries go to other servers until the DNS service is heard again");
    }
}

/// Forgets names that are over, until `shutdown`.
pub async fn tidy(names: Names, status: Status, shutdown: CancellationToken) {
    let now = status.counter("names_now");
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIDY) => now.set(names.tidy().try_into().unwrap_or(u64::MAX)),
            () = shutdown.cancelled() => return,
        }
    }
}

fn origin(conntrack: &mut Conntrack, question: &OriginQuestion) -> OriginAnswer {
    let reply = tuple_of_reply(
        question.protocol,
        (&question.client_address, question.client_port),
        (&question.server_address, question.server_port),
    );
    let asked = reply.and_then(|reply| conntrack.original(&reply));
    let asked = asked.map(|original| original.destination);
    OriginAnswer {
        request_id: question.request_id,
        server_address: asked.map(|server| octets(server.address)).unwrap_or_default(),
        server_port: asked.map(|server| server.port.into()).unwrap_or_default(),
    }
}

/// As the answer of a server, to which a client was redirected, travels to that client.
pub(crate) fn tuple_of_reply(protocol: u32, client: (&[u8], u32), server: (&[u8], u32)) -> Option<Tuple> {
    let end = |(octets, port): (&[u8], u32)| Some(Endpoint::new(address(octets)?, u16::try_from(port).ok()?));
    Some(Tuple {
        protocol: Protocol(u8::try_from(protocol).ok()?),
        source: end(server)?,
        destination: end(client)?,
        icmp: None,
    })
}

/// Says that a DNS server was there since this host was started: a file with the boot's id.
#[derive(Debug)]
struct ServedMark {
    path: PathBuf,
    boot: String,
}

impl ServedMark {
    fn new(state: &Path) -> Self {
        Self {
            path: state.join("dns-served"),
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        }
    }

    fn is_of_this_boot(&self) -> bool {
        !self.boot.is_empty() && fs::read_to_string(&self.path).is_ok_and(|boot| boot == self.boot)
    }

    fn set(&self) -> std::io::Result<()> {
        if self.is_of_this_boot() {
            return Ok(());
        }
        daemon::files::replace(&self.path, self.boot.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::interceptor::v1::ToldName;

    #[test]
    fn the_mark_of_another_boot_says_nothing() {
        let state = tempfile::tempdir().unwrap();
        let mark = ServedMark::new(state.path());
        assert!(!mark.is_of_this_boot());
        mark.set().unwrap();
        assert!(ServedMark::new(state.path()).is_of_this_boot());
        fs::write(&mark.path, "another boot\n").unwrap();
        assert!(!mark.is_of_this_boot());
    }

    #[test]
    fn what_is_malformed_names_nothing() {
        let names = Names::default();
        let told = |addresses: Vec<Vec<u8>>| ToldName {
            app: None,
            for_others: false,
            name: "a.test".into(),
            addresses,
            seconds: 60,
        };
        names.hear(&told(vec![vec![1, 2, 3]]).into(), false);
        let address = std::net::IpAddr::from([198, 18, 17, 10]);
        assert!(names.names(None, address).is_empty());
        names.hear(&told(vec![octets(address)]).into(), false);
        assert_eq!(names.names(None, address), [Arc::from("a.test")]);
    }
}
