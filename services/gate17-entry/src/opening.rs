//! Opens streams for what the interceptor announces, by the policy in force.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use gate17_proto::{
    capsule::{Decoder, encode},
    exit::Transport,
    target::Target,
};
use h2::{RecvStream, SendStream};
use proto::{
    gate17::v1::{App, Cause, Opened, Refused, Tunnelled},
    policy::v1::Tunnel as Travels,
};
use tokio::sync::watch;
use verdict::policy::CompiledPolicy;

use crate::{
    announced::Announced,
    circuit::Place,
    circuits::{Circuits, Want},
    link,
    refusal::Refusal,
    tcp::{self, ends_of},
    tunnel::Tunnel,
    udp,
};

/// Clones are the same.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The ways.
    pub circuits: Circuits,
    /// In force.
    pub policy: watch::Receiver<Arc<CompiledPolicy>>,
    /// Streams that wait for their programs.
    pub announced: Announced<Tunnel>,
}

impl Opening {
    /// What a program of a profile wants, by the policy in force here.
    pub fn want(&self, app: App, profile: &str, domain: &str) -> Want {
        Want {
            app,
            options: self.policy.borrow().tunnel_options(profile).clone(),
            profile: profile.to_owned(),
            domain: domain.to_owned(),
        }
    }

    /// The same by the policy of who asks: it may be newer or older than ours, and a path that its profile does not allow is
    /// never taken.
    ///
    /// # Errors
    /// Where `options` make no sense.
    pub fn want_by(&self, want: Want, options: Option<Travels>) -> Result<Want, Refusal> {
        let Some(options) = options else {
            return Ok(want);
        };
        let malformed = |error| {
            Refusal::new(
                Cause::NoPath,
                format!("how it travels is not understood: {error}"),
            )
        };
        Ok(Want {
            options: options.try_into().map_err(malformed)?,
            ..want
        })
    }

    fn wanted(&self, connection: &Tunnelled) -> Result<Want, Refusal> {
        let app = connection.app.clone().unwrap_or_default();
        let want = self.want(app, &connection.profile, &connection.domain);
        self.want_by(want, connection.options.clone())
    }

    async fn tcp(&self, connection: &Tunnelled) -> Result<Opened, Refusal> {
        let malformed = || Refusal::new(Cause::Unspecified, "the connection has no ends");
        let ends = ends_of(connection).ok_or_else(malformed)?;
        let stream = self.stream(connection).await?;
        let opened = stream.circuit().map_or_else(Opened::default, |circuit| Opened {
            request_id: 0,
            hops: circuit.hop_ids(),
            circuit: circuit.id,
        });
        self.announced
            .put(Instant::now(), ends, stream)
            .map_err(|_| Refusal::new(Cause::Limit, "too many streams wait for their programs"))?;
        Ok(opened)
    }

    async fn stream(&self, connection: &Tunnelled) -> Result<Tunnel, Refusal> {
        let malformed = || Refusal::new(Cause::Unspecified, "the connection has no ends");
        let ends = ends_of(connection).ok_or_else(malformed)?;
        let target = Target::new(ends.destination.ip(), ends.destination.port()).ok_or_else(malformed)?;
        self.circuits
            .through(
                &self.wanted(connection)?,
                Some((&target, Transport::Tcp)),
                |circuit| {
                    let target = target.clone();
                    async move { circuit.open_tcp(&target).await }
                },
            )
            .await
    }
}

impl tcp::Opener for Opening {
    async fn stream(&self, connection: &Tunnelled) -> Option<Tunnel> {
        Self::stream(self, connection).await.ok()
    }
}

impl link::Opener for Opening {
    async fn open(&self, connection: Tunnelled) -> Result<Opened, Refused> {
        self.tcp(&connection).await.map_err(|refusal| refusal.refused())
    }
}

impl udp::Opener for Opening {
    type Way = Way;

    async fn open(&self, connection: Tunnelled) -> Result<Way, Refused> {
        let malformed = || Refusal::new(Cause::Unspecified, "the connection has no ends").refused();
        let ends = ends_of(&connection).ok_or_else(malformed)?;
        let target = Target::new(ends.destination.ip(), ends.destination.port()).ok_or_else(malformed)?;
        let want = self.wanted(&connection).map_err(|refusal| refusal.refused())?;
        let opened = self
            .circuits
            .through(&want, Some((&target, Transport::Udp)), |circuit| {
                let target = target.clone();
                async move { circuit.open_udp(&target).await }
            })
            .await;
        let (from, to, place) = opened.map_err(|refusal| refusal.refused())?;
        Ok(Way {
            from,
            to,
            place,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
        })
    }
}

/// Datagrams in capsules (RFC 9298).
pub struct Way {
    from: RecvStream,
    to: SendStream<Bytes>,
    place: Place,
    decoder: Decoder,
    ready: VecDeque<Bytes>,
}

impl udp::Datagrams for Way {
    fn hops(&self) -> (Vec<String>, u64) {
        let circuit = self.place.circuit();
        (circuit.hop_ids(), circuit.id)
    }

    fn send(&mut self, datagram: Bytes) {
        let mut capsule = BytesMut::with_capacity(datagram.len() + 16);
        if !encode(&datagram, &mut capsule) {
            return;
        }
        // no more than this one: what is reserved and not used is taken from all streams of the circuit
        self.to.reserve_capacity(capsule.len());
        if self.to.capacity() < capsule.len() {
            self.to.reserve_capacity(0);
            return;
        }
        let length = datagram.len() as u64;
        // a stream that broke is noticed where it is read
        if self.to.send_data(capsule.freeze(), false).is_ok() {
            self.place
                .circuit()
                .carried
                .sent
                .fetch_add(length, Ordering::Relaxed);
        }
    }

    async fn receive(&mut self) -> Option<Bytes> {
        loop {
            if let Some(datagram) = self.ready.pop_front() {
                let length = datagram.len() as u64;
                self.place
                    .circuit()
                    .carried
                    .received
                    .fetch_add(length, Ordering::Relaxed);
                return Some(datagram);
            }
            let data = self.from.data().await?.ok()?;
            self.from.flow_control().release_capacity(data.len()).ok()?;
            self.decoder.feed(&data);
            while let Some(datagram) = self.decoder.next().ok()? {
                self.ready.push_back(datagram);
            }
        }
    }
}
