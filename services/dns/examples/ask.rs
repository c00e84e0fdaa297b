//! A small client over the pool of upstreams.
//!
//! `ask SERVER… NAME [TYPE]` asks once and shows the answer; `ask --compare N SERVER NAME` asks N times in turn over the pool
//! and over one plain UDP socket, and shows what the pool adds. Types are numbers, or A, AAAA, TXT, HTTPS.
#![expect(clippy::print_stdout, reason = "an example for the terminal")]

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use dns::upstream::{Pool, PoolSettings, Query};
use dns_core::{Name, Question};
use hickory_proto::op::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--compare") {
        let [_, count, server, name] = arguments.as_slice() else {
            bail!("usage: ask --compare N SERVER NAME");
        };
        return compare(count.parse()?, server, name).await;
    }
    let dnssec = arguments.iter().position(|one| one == "--dnssec");
    if let Some(at) = dnssec {
        arguments.remove(at);
    }
    let names = arguments
        .iter()
        .position(|one| !one.contains("://"))
        .unwrap_or(arguments.len());
    let (servers, rest) = arguments.split_at(names);
    let (name, kind) = match rest {
        [name] => (name, 1),
        [name, kind] => (name, kind_of(kind)?),
        _ => bail!("usage: ask [--dnssec] SERVER… NAME [TYPE]"),
    };
    let settings = PoolSettings {
        servers: servers
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, _>>()?,
        dnssec: dnssec.is_some(),
        ..PoolSettings::default()
    };
    let pool = Pool::new(&settings)?;
    let answer = Box::pin(pool.exchange(&query(name, kind)?)).await?;
    println!("{}", Message::from_vec(&answer.message)?);
    println!(
        ";; from {} in {:?}, secure: {:?}",
        answer.upstream, answer.took, answer.secure
    );
    Ok(())
}

fn kind_of(text: &str) -> anyhow::Result<u16> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "A" => 1,
        "AAAA" => 28,
        "TXT" => 16,
        "HTTPS" => 65,
        number => number
            .parse()
            .with_context(|| format!("read the type {text:?}"))?,
    })
}

fn query(name: &str, kind: u16) -> anyhow::Result<Query> {
    let name = Name::parse(name).with_context(|| format!("read the name {name:?}"))?;
    Ok(Query {
        question: Question { name, kind, class: 1 },
        do_bit: false,
        cd_bit: false,
    })
}

/// Asks in turn, so that what else the machine does hurts both alike.
async fn compare(count: usize, server: &str, name: &str) -> anyhow::Result<()> {
    let settings = PoolSettings {
        servers: vec![server.parse()?],
        ..PoolSettings::default()
    };
    let pool = Pool::new(&settings)?;
    let address = settings
        .servers
        .first()
        .and_then(|one| one.addresses.first())
        .copied();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address.context("the server is given by its address")?)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (mut by_pool, mut direct) = (Vec::new(), Vec::new());
    for n in 0..count + count / 10 {
        let asked = query(&name.replace('*', &format!("p{n}")), 1)?;
        let began = Instant::now();
        Box::pin(pool.exchange(&asked)).await?;
        by_pool.push(began.elapsed());
        let other = query(&name.replace('*', &format!("d{n}")), 1)?;
        let bytes = plain(&other.question, u16::try_from(n % 60_000)?);
        let mut answer = [0; 4096];
        let began = Instant::now();
        socket.send(&bytes)?;
        let length = socket.recv(&mut answer)?;
        direct.push(began.elapsed());
        ensure!(
            answer.get(..2) == bytes.get(..2) && length > 12,
            "a foreign answer"
        );
    }
    for (what, mut times) in [("pool", by_pool), ("direct", direct)] {
        times.drain(..count / 10);
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        println!("{what:>7}: p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
    }
    Ok(())
}

/// The same question as the pool's, but for letters and cookie.
fn plain(question: &Question, id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    bytes.extend_from_slice(question.name.as_wire());
    bytes.extend_from_slice(&[0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    bytes
}
