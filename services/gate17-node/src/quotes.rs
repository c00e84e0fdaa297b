//! Quotes of the day (RFC 865), for callers on port 17 that have nothing else to say, and by UDP where the owner wants that.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use daemon::status::Status;
use gate17_proto::quote;
use tokio::{net::UdpSocket, time::sleep};

use crate::{
    limits::Network,
    node::Current,
    rates::{Rate, Rates},
};

/// At least one.
#[derive(Clone, Debug)]
pub struct Quotes(quote::Quotes);

const PROBLEM: &str = "quotes";
/// Answers by UDP: to a network, and to all together.
const EACH: Rate = Rate {
    per_second: 1,
    burst: 4,
};
const ALL: Rate = Rate {
    per_second: 50,
    burst: 100,
};
/// Whoever asks from there is asked for by others, or answers every answer.
const SERVICES: u16 = 1024;
/// After an error that nobody can do anything about.
const REST: Duration = Duration::from_millis(50);

impl Quotes {
    /// Of a file; our own where there is none, or none in it that can be sent.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn load(file: Option<&Path>, status: &Status) -> io::Result<Self> {
        let Some(file) = file else {
            return Ok(Self(quote::Quotes::read(quote::SHIPPED)));
        };
        let mut read = quote::Quotes::read(&fs::read_to_string(file)?);
        let left_out: Vec<_> = read.left_out.iter().map(ToString::to_string).collect();
        if left_out.is_empty() {
            status.clear(PROBLEM);
        } else {
            status.raise(PROBLEM, format!("{}: {}", file.display(), left_out.join("; ")));
        }
        if read.pick(0).is_none() {
            read = quote::Quotes::read(quote::SHIPPED);
        }
        Ok(Self(read))
    }

    /// The one for `number`.
    pub fn pick(&self, number: u64) -> Bytes {
        self.0
            .pick(number)
            .map(Bytes::copy_from_slice)
            .unwrap_or_default()
    }

    /// One that is no longer than what asked for it.
    fn within(&self, length: usize, number: u64) -> Option<&[u8]> {
        self.0.pick_within(length, number)
    }
}

/// Answers datagrams for ever: never with more octets than came, and seldom. Who cannot hear an answer that long gets none.
pub async fn answer(socket: UdpSocket, current: Current) {
    let rates = Rates::new(EACH, Some(ALL));
    let mut asked = [0; quote::MAX_QUOTE];
    loop {
        let (length, from) = match socket.recv_from(&mut asked).await {
            Ok(asked) => asked,
            Err(error) => {
                tracing::debug!(%error, "no datagram can be received");
                sleep(REST).await;
                continue;
            }
        };
        let node = current.get();
        let quote = node.quotes.within(length, rand::random());
        let Some(quote) = quote.filter(|_| may_be_answered(from, &rates)) else {
            node.status.counter("datagrams_unanswered").add(1);
            continue;
        };
        node.status.counter("quotes").add(1);
        let _ = socket.try_send_to(quote, from);
    }
}

fn may_be_answered(from: SocketAddr, rates: &Rates) -> bool {
    from.port() >= SERVICES && rates.admits(Network::of(from.ip()), Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::About;

    #[test]
    fn a_file_has_quotes_and_what_cannot_be_sent_is_said() {
        let status = Status::new(About {
            name: "test",
            version: "",
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quotes");
        fs::write(&file, format!("one\n\n{}\n\ntwo two\n", "x".repeat(600))).unwrap();
        let quotes = Quotes::load(Some(&file), &status).unwrap();
        assert_eq!(
            (quotes.pick(0), quotes.pick(1)),
            ("one\r\n".into(), "two two\r\n".into())
        );
        assert_eq!(quotes.within(5, 1), Some(&b"one\r\n"[..]));
        assert_eq!(quotes.within(4, 1), None);
        assert!(status.snapshot().problems[0].text.contains("line 3"));
        fs::write(&file, "").unwrap();
        assert!(!Quotes::load(Some(&file), &status).unwrap().pick(7).is_empty());
        assert!(status.snapshot().problems.is_empty());
    }

    #[test]
    fn whoever_asks_from_a_port_of_services_is_not_answered() {
        let rates = Rates::new(EACH, None);
        assert!(!may_be_answered(([192, 0, 2, 1], 17).into(), &rates));
        assert!(may_be_answered(([192, 0, 2, 1], 40_000).into(), &rates));
    }
}
