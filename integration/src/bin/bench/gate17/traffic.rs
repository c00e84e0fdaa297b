//! What goes through the paths: servers on the internet, and the programs that talk to them.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Namespace, world::INTERNET_V4};

/// Reads and counts.
pub(super) const SINK: u16 = 7400;
/// Says again what it is told.
pub(super) const ECHO: u16 = 7401;
/// Clients that open many streams.
const OPENERS: usize = 16;
/// For one octet to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens; threads end with this process. Returns the octets that the sink has read.
pub(super) fn serve(internet: &Namespace) -> Arc<AtomicU64> {
    let listen = |port| {
        let listener = internet.enter(|| TcpListener::bind((INTERNET_V4, port)).expect("listen"));
        // many come at once
        rustix::net::listen(&listener, 4096).expect("lengthen the backlog");
        listener
    };
    let sunk = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sunk);
    each(listen(SINK), move |mut stream| {
        let mut buffer = vec![0; 1 << 18];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            counter.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
    each(listen(ECHO), |mut stream| {
        let _ = stream.set_nodelay(true);
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    });
    sunk
}

fn each(listener: TcpListener, act: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = act.clone();
            thread::spawn(move || act(stream));
        }
    });
}

/// How a program gets to a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// It connects to that address.
    Straight(SocketAddrV4),
    /// By a SOCKS proxy (RFC 1928) to that address.
    Socks(u16, SocketAddrV4),
}

impl Way {
    /// As words for [`load`].
    pub(super) fn words(self) -> [String; 2] {
        match self {
            Self::Straight(to) => ["-".to_owned(), to.to_string()],
            Self::Socks(port, to) => [port.to_string(), to.to_string()],
        }
    }

    fn parse(socks: &str, to: &str) -> Self {
        let to = to.parse().unwrap();
        socks
            .parse()
            .map_or(Self::Straight(to), |port| Self::Socks(port, to))
    }

    fn connect(self) -> std::io::Result<TcpStream> {
        let stream = match self {
            Self::Straight(to) => TcpStream::connect(SocketAddr::from(to))?,
            Self::Socks(port, to) => through_socks(port, to)?,
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

fn through_socks(port: u16, to: SocketAddrV4) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    let mut request = vec![5, 1, 0, 1];
    request.extend(to.ip().octets());
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    if answer[1] == 0 {
        Ok(stream)
    } else {
        Err(std::io::Error::other(format!("SOCKS says {}", answer[1])))
    }
}

/// There and back.
fn trip(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

/// `bench load tunnel …`
pub(in crate::gate17) fn load(words: &[&str]) {
    match words {
        ["carry", socks, to, streams, seconds] => {
            carry(
                Way::parse(socks, to),
                streams.parse().unwrap(),
                seconds.parse().unwrap(),
            );
        }
        ["open", socks, to, count] => open(Way::parse(socks, to), count.parse().unwrap()),
        ["many", socks, to, count] => many(Way::parse(socks, to), count.parse().unwrap()),
        _ => panic!("no such load: {words:?}"),
    }
}

fn carry(way: Way, streams: usize, seconds: u64) {
    let until = Instant::now() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for _ in 0..streams {
            scope.spawn(move || {
                let mut stream = way.connect().expect("open a stream");
                // a slow path takes no block in time: the end is not waited for
                stream
                    .set_write_timeout(Some(Duration::from_secs(seconds)))
                    .expect("set a timeout");
                let block = vec![0x17; 1 << 18];
                while Instant::now() < until && stream.write_all(&block).is_ok() {}
                // a slow path has taken much in by now: a reset has it dropped
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                    .expect("have it end with a reset");
            });
        }
    });
}

/// Prints nanoseconds: the first octet there and back on a new stream (median, 99th percentile), and on an open one.
fn open(way: Way, count: usize) {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let start = Instant::now();
        let mut stream = way.connect().expect("open a stream");
        trip(&mut stream).expect("the first octet comes back");
        first.push(start.elapsed());
        for _ in 0..5 {
            let start = Instant::now();
            trip(&mut stream).expect("an octet comes back");
            later.push(start.elapsed());
        }
    }
    first.sort_unstable();
    later.sort_unstable();
    let [median, most, trip] = [
        first[first.len() / 2],
        first[first.len() * 99 / 100],
        later[later.len() / 2],
    ]
    .map(|duration| duration.as_nanos());
    println!("{median} {most} {trip}");
}

/// Prints how many streams were open at once, each of which carried an octet while all were, and milliseconds to open them.
fn many(way: Way, count: usize) {
    let start = Instant::now();
    let kept = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| {
                for _ in 0..count / OPENERS {
                    match way.connect() {
                        Ok(stream) => kept.lock().expect("nobody panics").push(stream),
                        Err(error) => eprintln!("a stream is not opened: {error}"),
                    }
                }
            });
        }
    });
    let took = start.elapsed().as_millis();
    let mut kept = kept.into_inner().expect("nobody panics");
    let carried = kept.iter_mut().filter_map(|stream| trip(stream).ok()).count();
    println!("{carried} {took}");
}
