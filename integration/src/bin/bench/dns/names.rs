//! Names that are asked for: those that exist, each with an answer of its own cache entry, and a million that are blocked.

use std::{
    fmt::Write as _,
    fs,
    net::UdpSocket,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Names that answers are kept of.
pub(super) const CACHED: usize = 10_000;
/// Names of the list.
pub(super) const LISTED: usize = 1_000_000;
/// Of those, so many are asked one by one, again and again: what a program is told for the first time, the firewall is told before.
const ASKED_AGAIN: usize = 25;
/// Between two questions at a moderate rate.
const PAUSE: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(3);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Again and again.
    Cached,
    /// Once each; `run` keeps runs apart.
    Unique { run: usize },
    /// On the list.
    Blocked,
}

impl Kind {
    fn name(self, number: usize) -> String {
        match self {
            Self::Cached => format!("n{}.bench.example", number % CACHED),
            Self::Unique { run } => format!("u{run}x{number}.bench.example"),
            // spread over the list
            Self::Blocked => listed(number.wrapping_mul(7919) % LISTED),
        }
    }

    fn words(self) -> [String; 2] {
        match self {
            Self::Cached => ["cached".to_owned(), "0".to_owned()],
            Self::Unique { run } => ["unique".to_owned(), run.to_string()],
            Self::Blocked => ["blocked".to_owned(), "0".to_owned()],
        }
    }

    fn parse(word: &str, run: &str) -> Self {
        match word {
            "cached" => Self::Cached,
            "blocked" => Self::Blocked,
            _ => Self::Unique {
                run: run.parse().unwrap(),
            },
        }
    }
}

/// One of a million: `3fa9b2c-123456.com`.
pub(super) fn listed(number: usize) -> String {
    // splitmix64
    let mut mixed = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:07x}-{number}.com", mixed & 0x0fff_ffff)
}

/// Writes the list, each name between `before` and `after`.
pub(super) fn write_list(file: &Path, before: &str, after: &str) {
    let mut text = String::with_capacity(LISTED * (24 + before.len() + after.len()));
    for number in 0..LISTED {
        writeln!(text, "{before}{}{after}", listed(number)).expect("a string takes it");
    }
    fs::write(file, text).expect("write a list");
}

/// Writes what dnsperf asks.
pub(super) fn write_questions(file: &Path, kind: Kind) {
    let mut text = String::new();
    for number in 0..CACHED {
        writeln!(text, "{} A", kind.name(number)).expect("a string takes it");
    }
    fs::write(file, text).expect("write questions");
}

/// Words for [`load`].
pub(super) fn words(server: &str, kind: Kind, count: usize) -> Vec<String> {
    let mut words = vec!["load".to_owned(), "names".to_owned(), server.to_owned()];
    words.extend(kind.words());
    words.push(count.to_string());
    words
}

/// `bench load names SERVER KIND RUN COUNT`: one question after another; prints the median and the 99th percentile in
/// nanoseconds, and how many answers had which code.
pub(crate) fn load(words: &[&str]) {
    let [server, kind, run, count] = words else {
        panic!("no such load: {words:?}")
    };
    let kind = Kind::parse(kind, run);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut taken = Vec::new();
    let mut codes = [0_usize; 16];
    let mut buffer = [0; 1500];
    for number in 0..count.parse().unwrap() {
        let which = if kind == Kind::Cached {
            number % ASKED_AGAIN
        } else {
            number
        };
        let query = question(&kind.name(which), number);
        let start = Instant::now();
        socket.send(&query).expect("send a question");
        // an answer to another question is one that came too late
        while let Ok(length) = socket.recv(&mut buffer) {
            if length > 12 && buffer[..2] == query[..2] {
                taken.push(start.elapsed());
                codes[usize::from(buffer[3] & 15)] += 1;
                break;
            }
        }
        thread::sleep(PAUSE);
    }
    taken.sort_unstable();
    let at = |part: usize| taken.get(taken.len() * part / 100).map_or(0, Duration::as_nanos);
    println!("{} {} {} {}", at(50), at(99), codes[0], codes[3]);
}

/// RFC 1035: a query for an address, recursion desired.
fn question(name: &str, number: usize) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mut octets = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        octets.push(u8::try_from(label.len()).expect("a short label"));
        octets.extend(label.as_bytes());
    }
    octets.extend([0, 0, 1, 0, 1]);
    octets
}
