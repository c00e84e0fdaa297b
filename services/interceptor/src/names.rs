//! The stream of the DNS service: what it told to whom comes in before its answer goes out, and it asks which server a
//! redirected client had meant.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use daemon::status::Status as ServiceStatus;
use proto::interceptor::v1::{
    FromDns, OriginAnswer, OriginQuestion, ToDns, ToldName, from_dns, names_server, to_dns::Said,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use verdict::{Endpoint, Protocol};

use crate::{
    conntrack::{Conntrack, Tuple},
    told::{App, Hearer, Names},
};

/// Answers on their way to the DNS service.
const ANSWERS: usize = 256;
/// Names that are over are forgotten so often.
const TIDY: Duration = Duration::from_secs(60);
/// No answer of a DNS server holds longer (RFC 8767 §4 advises a week).
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Serves [`Names`].
#[derive(Debug)]
pub struct Service {
    names: Names,
    conntrack: Arc<Mutex<Conntrack>>,
    mark: ServedMark,
    status: ServiceStatus,
}

impl Service {
    /// `state`: the service's folder. Where a DNS server was there since this host was started, it is there still.
    pub fn new(names: Names, conntrack: Conntrack, state: &Path, status: ServiceStatus) -> Self {
        let mark = ServedMark::new(state);
        if mark.is_of_this_boot() {
            names.serve();
        }
        Self {
            names,
            conntrack: Arc::new(Mutex::new(conntrack)),
            mark,
            status,
        }
    }
}

#[tonic::async_trait]
impl names_server::Names for Service {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ToDns, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<FromDns>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut stream = request.into_inner();
        if !self.names.is_served() {
            tracing::info!("a local DNS server is there: queries to other servers are sent to it");
            self.names.serve();
        }
        if let Err(error) = self.mark.set() {
            tracing::warn!(%error, "after a restart, queries go to other servers until the DNS service calls again");
        }
        let (answers, replies) = mpsc::channel(ANSWERS);
        let (names, conntrack) = (self.names.clone(), Arc::clone(&self.conntrack));
        let counter = self.status.counter("names_told");
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let answer = match message.said {
                    Some(from_dns::Said::Told(told)) => {
                        counter.add(told.names.len().try_into().unwrap_or(u64::MAX));
                        told.names.into_iter().for_each(|name| hear(&names, name));
                        Said::Acknowledged(told.sequence)
                    }
                    Some(from_dns::Said::Origin(question)) => Said::Origin(origin(&conntrack, &question)),
                    // a newer DNS service says more
                    None => continue,
                };
                if answers.send(Ok(ToDns { said: Some(answer) })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }
}

/// Forgets names that are over, until `shutdown`.
pub async fn tidy(names: Names, status: ServiceStatus, shutdown: CancellationToken) {
    let now = status.counter("names_now");
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIDY) => now.set(names.tidy().try_into().unwrap_or(u64::MAX)),
            () = shutdown.cancelled() => return,
        }
    }
}

/// What is malformed names nothing.
fn hear(names: &Names, told: ToldName) {
    let hearer = match told.app {
        Some(app) if !told.for_others => Hearer::App(App {
            device: app.device,
            inode: app.inode,
            script: (!app.script.is_empty()).then(|| PathBuf::from(app.script)),
            uid: app.uid,
        }),
        _ => Hearer::Anybody,
    };
    let addresses: Vec<IpAddr> = told
        .addresses
        .iter()
        .filter_map(|octets| address(octets))
        .collect();
    let holds = Duration::from_secs(told.seconds.into()).min(LONGEST);
    names.tell(&hearer, &addresses, &told.name, holds);
}

fn origin(conntrack: &Mutex<Conntrack>, question: &OriginQuestion) -> OriginAnswer {
    let asked = tuple_of_reply(question).and_then(|reply| {
        let mut conntrack = conntrack.lock().unwrap_or_else(PoisonError::into_inner);
        conntrack.original(&reply)
    });
    let asked = asked.map(|original| original.destination);
    OriginAnswer {
        request_id: question.request_id,
        server_address: asked.map(|server| octets(server.address)).unwrap_or_default(),
        server_port: asked.map(|server| server.port.into()).unwrap_or_default(),
    }
}

/// As the server's answer to that client travels.
fn tuple_of_reply(question: &OriginQuestion) -> Option<Tuple> {
    let OriginQuestion {
        protocol,
        client_address,
        client_port,
        server_address,
        server_port,
        ..
    } = question;
    let end = |octets: &[u8], port: u32| Some(Endpoint::new(address(octets)?, u16::try_from(port).ok()?));
    Some(Tuple {
        protocol: Protocol(u8::try_from(*protocol).ok()?),
        source: end(server_address, *server_port)?,
        destination: end(client_address, *client_port)?,
        icmp: None,
    })
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(octets)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).into())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
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
        hear(&names, told(vec![vec![1, 2, 3]]));
        let address = IpAddr::from([198, 18, 17, 10]);
        assert!(names.names(None, address).is_empty());
        hear(&names, told(vec![octets(address)]));
        assert_eq!(names.names(None, address), [Arc::from("a.test")]);
    }
}
