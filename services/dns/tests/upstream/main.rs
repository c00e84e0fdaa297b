//! The upstream side against servers: liars written here, unbound and nsd from the distribution, hickory's server for QUIC.
//! All on loopback, on ports of the kernel's choice.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod certificates;
mod liar;
mod program;
mod zones;

mod dnssec;
mod encrypted;
mod kept;
mod lies;
mod outages;
mod real;
mod routes;

use std::{net::SocketAddr, time::Duration};

use dns::upstream::{Answer, Error, Pool, PoolSettings, Query};
use dns_core::{Name, Question};
use hickory_proto::{op::Message, rr::RData};

/// Nothing here takes so long, unless the machine is very busy.
pub(crate) const GENEROUS: Duration = Duration::from_secs(20);

/// A question for an address.
pub(crate) fn query(name: &str) -> Query {
    query_for(name, 1)
}

pub(crate) fn query_for(name: &str, kind: u16) -> Query {
    Query {
        question: Question {
            name: Name::parse(name).unwrap(),
            kind,
            class: 1,
        },
        do_bit: false,
        cd_bit: false,
    }
}

/// A pool from its settings as an owner writes them.
pub(crate) fn pool(settings: &str) -> Pool {
    let settings: PoolSettings = toml::from_str(settings).unwrap();
    Pool::new(&settings).unwrap()
}

pub(crate) fn udp(server: SocketAddr) -> Pool {
    pool(&format!("servers = ['udp://{server}']"))
}

/// The addresses in an answer.
pub(crate) fn addresses(answer: &Answer) -> Vec<String> {
    let message = Message::from_vec(&answer.message).unwrap();
    let address = |data: &RData| match data {
        RData::A(a) => Some(a.to_string()),
        RData::AAAA(a) => Some(a.to_string()),
        _ => None,
    };
    message
        .answers
        .iter()
        .filter_map(|record| address(&record.data))
        .collect()
}

/// Asks, with all the patience that a test has.
pub(crate) async fn ask(pool: &Pool, name: &str) -> Result<Answer, Error> {
    let query = query(name);
    let asked = Box::pin(pool.exchange(&query));
    tokio::time::timeout(GENEROUS, asked)
        .await
        .expect("a pool keeps its deadline")
}
