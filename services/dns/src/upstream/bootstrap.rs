//! Addresses of servers that are given by name: looked up at the bootstrap servers, which are asked for nothing else.
//!
//! What they answer need not be trusted: whoever answers at a forged address cannot prove the name.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dns_core::{Name, Question};
use hickory_proto::{
    op::Message,
    rr::{RData, RecordType},
};

use super::{Query, clock, pool::Pool, trouble::Trouble};

/// Addresses are looked up again after their time to live, but neither more often nor later than this.
const KEEP: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(86_400));

/// See the module.
pub(crate) struct Bootstrap {
    pool: Box<Pool>,
    known: Mutex<HashMap<Arc<str>, Known>>,
}

struct Known {
    addresses: Arc<[SocketAddr]>,
    until: Duration,
}

impl Bootstrap {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool: Box::new(pool),
            known: Mutex::default(),
        }
    }

    /// The addresses of a name, IPv6 and IPv4 in turn. Old ones serve when nobody answers.
    pub(crate) async fn look_up(&self, name: &Arc<str>, port: u16) -> Result<Arc<[SocketAddr]>, Trouble> {
        let now = clock::now();
        let old = self.known(|known| {
            known
                .get(name)
                .map(|known| (Arc::clone(&known.addresses), known.until))
        });
        if let Some((addresses, _)) = old.as_ref().filter(|(_, until)| now < *until) {
            return Ok(Arc::clone(addresses));
        }
        match self.fresh(name, port).await {
            Ok((addresses, keep)) => {
                let known = Known {
                    addresses: Arc::clone(&addresses),
                    until: clock::now() + keep.clamp(KEEP.0, KEEP.1),
                };
                self.known(|all| all.insert(Arc::clone(name), known));
                Ok(addresses)
            }
            Err(trouble) => old.map(|(addresses, _)| addresses).ok_or(trouble),
        }
    }

    /// The server cannot be reached where it was: the next look-up asks anew.
    pub(crate) fn doubt(&self, name: &str) {
        self.known(|known| {
            if let Some(known) = known.get_mut(name) {
                known.until = Duration::ZERO;
            }
        });
    }

    /// Addresses of a name that were found; perhaps a while ago.
    pub(crate) fn known_of(&self, name: &str) -> Vec<IpAddr> {
        self.known(|known| {
            let addresses = known.get(name).map(|known| known.addresses.iter());
            addresses.into_iter().flatten().map(SocketAddr::ip).collect()
        })
    }

    /// Who is asked.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    fn known<T>(&self, use_it: impl FnOnce(&mut HashMap<Arc<str>, Known>) -> T) -> T {
        use_it(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn fresh(&self, name: &str, port: u16) -> Result<(Arc<[SocketAddr]>, Duration), Trouble> {
        let parsed = Name::parse(name).map_err(Trouble::io)?;
        let ask = |kind: RecordType| {
            let question = Question {
                name: parsed.clone(),
                kind: kind.into(),
                class: 1,
            };
            Box::pin(async move {
                let query = Query {
                    question,
                    do_bit: false,
                    cd_bit: false,
                };
                self.pool.exchange(&query).await
            })
        };
        let (six, four) = tokio::join!(ask(RecordType::AAAA), ask(RecordType::A));
        if let (Err(six), Err(_)) = (&six, &four) {
            return Err(Trouble::io(format_args!("look up the address of {name}: {six}")));
        }
        let mut keep = KEEP.1;
        let mut of = |answer: Result<super::Answer, _>| {
            let message = answer
                .ok()
                .and_then(|answer| Message::from_vec(&answer.message).ok());
            addresses(message.as_ref(), port, &mut keep)
        };
        let (six, four) = (of(six), of(four));
        let most = six.len().max(four.len());
        let in_turn = (0..most)
            .flat_map(|at| [six.get(at), four.get(at)])
            .flatten()
            .copied();
        let all: Arc<[SocketAddr]> = in_turn.collect();
        if all.is_empty() {
            return Err(Trouble::io(format_args!(
                "look up the address of {name}: it has none"
            )));
        }
        Ok((all, keep))
    }
}

fn addresses(message: Option<&Message>, port: u16, keep: &mut Duration) -> Vec<SocketAddr> {
    let records = message
        .map(|message| message.answers.as_slice())
        .unwrap_or_default();
    let mut found = Vec::new();
    for record in records {
        let address: IpAddr = match &record.data {
            RData::A(a) => a.0.into(),
            RData::AAAA(aaaa) => aaaa.0.into(),
            _ => continue,
        };
        found.push(SocketAddr::new(address, port));
        *keep = (*keep).min(Duration::from_secs(record.ttl.into()));
    }
    found
}
