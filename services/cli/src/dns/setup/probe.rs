//! Whether names come to our server: a name that nobody else can know is asked for, and the service tells whether it heard it,
//! from whom, and on which way. The name ends in `.test`, which the service answers itself: nothing leaves the host.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use proto::dns::v1::{
    ListUpstreamsRequest, Query, QueryEvents, Upstream, WatchQueriesRequest, dns_client::DnsClient,
};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Streaming, transport::Channel};

use super::{host::Host, place::Place};
use crate::place::{PlaceArgs, Service};

/// Where it may listen, the address of its own first: nobody else is there.
const PLACES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 17)),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];
/// A service on this host that heard a name tells of it within this time, however busy the host is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a host's set-up may take to be in use.
const SETTLING: Duration = Duration::from_secs(20);
/// The service looks at the system's servers again so soon after a change, and a little more.
const LOOK_AGAIN: Duration = Duration::from_millis(700);

/// The DNS service, asked over gRPC.
pub(super) struct Probe<'a> {
    place: &'a PlaceArgs,
    client: DnsClient<Channel>,
    asked: u32,
}

impl<'a> Probe<'a> {
    pub(super) fn new(place: &'a PlaceArgs) -> Self {
        let client = DnsClient::new(place.channel(Service::Dns));
        Self {
            place,
            client,
            asked: 0,
        }
    }

    /// The address at which our service, and not another one, answers.
    ///
    /// # Errors
    /// Where it does not run, or nowhere.
    pub(super) async fn server(&mut self) -> Result<IpAddr> {
        let mut events = self.events().await?;
        for server in PLACES {
            let name = self.name();
            if answers(SocketAddr::new(server, 53), &name).await
                && heard(&mut events, &name, PATIENCE).await?.is_some()
            {
                return Ok(server);
            }
        }
        bail!(
            "the dns service runs, and answers at none of 127.0.0.17, 127.0.0.1 and ::1, port 53: `systemctl status \
             'portmaster-dns*.socket'` tells why"
        )
    }

    /// What it asks itself.
    pub(super) async fn upstreams(&mut self) -> Result<Vec<Upstream>> {
        let reply = self.client.list_upstreams(ListUpstreamsRequest {}).await;
        Ok(self.place.answer(Service::Dns, reply)?.upstreams)
    }

    /// Asks as programs of this host do, by each place that was changed.
    ///
    /// # Errors
    /// Where the service did not hear of it, or only by the firewall's redirect, or has nobody to ask now.
    pub(super) async fn host(&mut self, host: &Host, places: &[Place]) -> Result<()> {
        if places.contains(&Place::Resolved) {
            self.way(host, Way::Resolved).await?;
        }
        let by_library = [Place::ResolvConf, Place::Openresolv];
        if places.is_empty() || by_library.iter().any(|place| places.contains(place)) {
            self.way(host, Way::Library).await?;
        }
        sleep(LOOK_AGAIN).await;
        ensure!(
            !self.upstreams().await?.is_empty(),
            "the dns service knows no name server that it could ask: name some in /etc/portmaster/dns.toml \
             (docs/dns-upstreams.md)"
        );
        Ok(())
    }

    async fn way(&mut self, host: &Host, way: Way) -> Result<()> {
        let until = Instant::now() + SETTLING;
        let mut redirected = false;
        loop {
            let mut events = self.events().await?;
            let name = self.name();
            way.ask(host, &name).await?;
            match heard(&mut events, &name, PATIENCE / 2).await? {
                Some(query) if !query.redirected => return Ok(()),
                Some(_) => redirected = true,
                None => {}
            }
            if Instant::now() > until {
                break;
            }
            sleep(PATIENCE / 10).await;
        }
        let how = way.text();
        if redirected {
            bail!("names asked by {how} came to the dns service only because the firewall redirects them");
        }
        bail!("names asked by {how} did not come to the dns service")
    }

    async fn events(&mut self) -> Result<Streaming<QueryEvents>> {
        let request = WatchQueriesRequest::default();
        let reply = self.client.watch_queries(request).await;
        self.place.answer(Service::Dns, reply)
    }

    /// Never asked for before, by anybody.
    fn name(&mut self) -> String {
        self.asked += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (process, number) = (std::process::id(), self.asked);
        format!("portmaster-{process:x}-{:x}-{number}.test", now.as_nanos())
    }
}

/// How a program asks.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// systemd-resolved, over the bus.
    Resolved,
    /// The C library: /etc/nsswitch.conf and what that names.
    Library,
}

impl Way {
    const fn text(self) -> &'static str {
        match self {
            Self::Resolved => "systemd-resolved",
            Self::Library => "the C library (/etc/nsswitch.conf, /etc/resolv.conf)",
        }
    }

    async fn ask(self, host: &Host, name: &str) -> Result<()> {
        match self {
            Self::Resolved => host.ask_resolved(name).await,
            Self::Library => {
                let asked = (name.to_owned(), 0);
                let look = tokio::task::spawn_blocking(move || asked.to_socket_addrs().map(drop));
                // there is no such name: an error is as good; a library that hangs is waited for no longer
                let _found_or_not = timeout(PATIENCE, look).await;
                Ok(())
            }
        }
    }
}

/// The query for this name, once it is told of.
async fn heard(events: &mut Streaming<QueryEvents>, name: &str, patience: Duration) -> Result<Option<Query>> {
    let until = Instant::now() + patience;
    loop {
        let batch = match timeout_at(until, events.message()).await {
            Err(_) => return Ok(None),
            Ok(message) => message.context("follow the queries of the dns service")?,
        };
        let batch = batch.context("the dns service stopped: `portmaster status` tells more")?;
        // a search domain may be at its end
        let is_it = |query: &Query| query.name.starts_with(name);
        if let Some(query) = batch.queries.into_iter().find(is_it) {
            return Ok(Some(query));
        }
    }
}

/// Whether somebody answers there.
async fn answers(server: SocketAddr, name: &str) -> bool {
    let asked = async {
        let any: IpAddr = match server.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await.ok()?;
        socket.connect(server).await.ok()?;
        socket.send(&query(name)).await.ok()?;
        let mut answer = [0; 512];
        socket.recv(&mut answer).await.ok()
    };
    timeout(PATIENCE, asked).await.ok().flatten().is_some()
}

/// A question for the address of a name (RFC 1035 §4.1); its labels are short.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x17, 0x99, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.bytes().take(63));
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_new_each_time_and_fit() {
        let place = PlaceArgs {
            root: Some("/nonexistent".into()),
            runtime_dir: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let mut probe = Probe::new(&place);
        let (one, other) = (probe.name(), probe.name());
        assert_ne!(one, other);
        assert!(one.split('.').all(|label| label.len() < 64), "{one}");
        let message = query("ab.test");
        assert_eq!(&message[12..], b"\x02ab\x04test\0\0\x01\0\x01");
    }
}
