//! Answers the queues of a namespace: the mark of a packet is its port less 7000, where that is a mark.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use integration::Namespace;
use interceptor::nfqueue::{Queue, QueueNumber, QueueOptions, Queued};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use verdict::{Mark, mark::MarkScheme};

/// Port 53 is [`Mark::DNS`], ports 8700 to 8798 are the marks 1700 to 1798, everything else [`Mark::ACCEPT`].
pub(crate) fn mark_of_port(port: u16) -> Mark {
    match port {
        53 => Mark::DNS,
        8700..=8798 => Mark(u32::from(port) - 7000),
        _ => Mark::ACCEPT,
    }
}

/// What a packet is, as far as the decider looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// TCP or UDP, by its port of interest.
    Port(u16),
    /// ICMP and ICMPv6, by type.
    Icmp(u8),
    /// The rest.
    Other,
}

/// Decides until dropped.
pub(crate) struct Decider {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    icmp: AtomicU32,
    asked: Mutex<HashMap<Kind, u32>>,
    scheme: MarkScheme,
}

impl Decider {
    /// Binds all four queues.
    pub(crate) fn start(namespace: &Namespace, scheme: MarkScheme) -> Self {
        let options = QueueOptions::default();
        let bind = || QueueNumber::ALL.map(|number| Queue::bind(number, &options).unwrap());
        let queues = namespace.enter(bind);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            icmp: AtomicU32::new(Mark::ACCEPT.0),
            asked: Mutex::default(),
            scheme,
        });
        let mine = Arc::clone(&shared);
        let thread = thread::spawn(move || mine.run(&queues));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// From now on ICMP gets this mark.
    pub(crate) fn mark_icmp(&self, mark: Mark) {
        self.shared.icmp.store(mark.0, Ordering::SeqCst);
    }

    /// How often packets of this kind were asked about.
    pub(crate) fn asked(&self, kind: Kind) -> u32 {
        self.shared.asked.lock().unwrap().get(&kind).copied().unwrap_or(0)
    }
}

impl Drop for Decider {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, queues: &[Queue]) {
        let mut buffer = vec![0; 1 << 18];
        while !self.stop.load(Ordering::SeqCst) {
            let mut ready: Vec<_> = queues
                .iter()
                .map(|queue| PollFd::new(queue, PollFlags::IN))
                .collect();
            let _ = poll(
                &mut ready,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 50_000_000,
                }),
            );
            for queue in queues {
                self.read(queue, &mut buffer);
            }
        }
    }

    fn read(&self, queue: &Queue, buffer: &mut [u8]) {
        let mut answer = netlink::Builder::new();
        while queue
            .read(buffer, |packet| {
                let mark = self.scheme.apply(self.decide(&packet), packet.mark);
                queue.accept(&mut answer, packet.id, mark).unwrap();
            })
            .unwrap()
        {}
    }

    fn decide(&self, packet: &Queued<'_>) -> Mark {
        let kind = kind(packet.bytes);
        *self.asked.lock().unwrap().entry(kind).or_default() += 1;
        match kind {
            Kind::Port(port) => mark_of_port(port),
            Kind::Icmp(_) => Mark(self.icmp.load(Ordering::SeqCst)),
            Kind::Other => Mark::ACCEPT,
        }
    }
}

/// Of packets without options or extension headers.
fn kind(packet: &[u8]) -> Kind {
    let (protocol, rest) = match packet[0] >> 4 {
        4 => (packet[9], &packet[20..]),
        _ => (packet[6], &packet[40..]),
    };
    match protocol {
        6 | 17 => {
            let ports = [2, 0].map(|at| u16::from_be_bytes([rest[at], rest[at + 1]]));
            let told = ports
                .into_iter()
                .find(|port| mark_of_port(*port) != Mark::ACCEPT || *port == 8710);
            Kind::Port(told.unwrap_or(ports[0]))
        }
        1 | 58 => Kind::Icmp(rest[0]),
        _ => Kind::Other,
    }
}
