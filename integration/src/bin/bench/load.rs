//! Loads: short programs that run in the host's namespace and print what they measured.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::sockopt;

/// `bench load <kind> …`
pub(super) fn run(words: &[&str]) {
    match words {
        ["idle", descriptors] => idle(number(descriptors)),
        ["sequential", address, count] => sequential(address.parse().unwrap(), number(count)),
        ["sequential", address, count, hold, open] => {
            let _kept = open_many(hold.parse().unwrap(), number(open));
            sequential(address.parse().unwrap(), number(count));
        }
        ["parallel", address, threads, seconds] => {
            parallel(address.parse().unwrap(), number(threads), number(seconds));
        }
        ["one", address] => one(address.parse().unwrap()),
        ["short-lived", address, count, programs @ ..] => short_lived(address, number(count), programs),
        ["bulk", address, seconds] => bulk(address.parse().unwrap(), number(seconds)),
        ["burst", address, count] => burst(address.parse().unwrap(), number(count)),
        ["hold", address, count] => {
            let kept = open_many(address.parse().unwrap(), number(count));
            println!("{}", kept.len());
            sleep();
        }
        _ => panic!("no such load: {words:?}"),
    }
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}

fn sleep() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// A process that has descriptors and does nothing.
fn idle(descriptors: usize) {
    let _pairs: Vec<_> = (0..descriptors / 2)
        .map(|_| UnixStream::pair().unwrap())
        .collect();
    println!("ready");
    sleep();
}

/// Latency of one `connect()`, in nanoseconds. Closed by a reset: no TIME-WAIT uses up the ports.
fn connect(address: SocketAddr) -> std::io::Result<(u64, u16)> {
    let start = Instant::now();
    let stream = TcpStream::connect(address)?;
    let took = u64::try_from(start.elapsed().as_nanos()).unwrap();
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok((took, stream.local_addr()?.port()))
}

fn sequential(address: SocketAddr, count: usize) {
    for _ in 0..100 {
        let _warm = connect(address);
    }
    let mut taken: Vec<u64> = (0..count).map(|_| connect(address).unwrap().0).collect();
    taken.sort_unstable();
    println!("{} {}", taken[count / 2], taken[count * 99 / 100]);
}

fn parallel(address: SocketAddr, threads: usize, seconds: usize) {
    let (made, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    let begin = Barrier::new(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                begin.wait();
                let start = Instant::now();
                while start.elapsed().as_secs() < seconds as u64 {
                    let counter = if connect(address).is_ok() { &made } else { &lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} {}", made.into_inner() / seconds as u64, lost.into_inner());
}

fn one(address: SocketAddr) {
    let (took, port) = connect(address).unwrap();
    println!("{took} {port}");
}

/// Each process runs one of `programs`, copies of this one, makes one connection and ends.
fn short_lived(address: &str, count: usize, programs: &[&str]) {
    for number in 0..count {
        let program = programs[number % programs.len()];
        let output = Command::new(program)
            .args(["load", "one", address])
            .output()
            .unwrap();
        println!("{program} {}", String::from_utf8_lossy(&output.stdout).trim());
    }
}

fn bulk(address: SocketAddr, seconds: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    let block = vec![0x17; 1 << 18];
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed().as_secs() < seconds as u64 {
        stream.write_all(&block).unwrap();
        sent += block.len() as u64;
    }
    println!(
        "{}",
        sent / u64::try_from(start.elapsed().as_millis()).unwrap() * 1000
    );
}

/// One datagram from each of `count` new sockets, as fast as two threads can that go before everybody else: the firewall
/// gets to its queue when the burst is over.
fn burst(address: SocketAddr, count: usize) {
    let sockets: Vec<_> = (0..count)
        .map(|_| UdpSocket::bind("0.0.0.0:0").unwrap())
        .collect();
    rustix::process::setpriority_process(None, -20).unwrap();
    let begin = Barrier::new(2);
    let start = Instant::now();
    thread::scope(|scope| {
        for half in sockets.chunks(count.div_ceil(2)) {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                for socket in half {
                    let _refused = socket.send_to(b"burst", address);
                }
            });
        }
    });
    println!("{}", start.elapsed().as_micros());
    // Attribution looks for the process: it is still there.
    thread::sleep(Duration::from_secs(3));
}

fn open_many(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}
