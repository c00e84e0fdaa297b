//! A thread that answers datagrams.
//!
//! It has a runtime of its own: what has to wait for an upstream is driven by the thread that received it, so that an answer costs
//! no hand-over between threads.

mod turn;

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
};
use tracing::{debug, error};

use super::{Front, Handler, datagram};
use crate::schedule;
use turn::Room;

/// So many steps of queries that wait before it is looked for what came.
const STEPS: u32 = 16;
/// Nearer than any timer of a query that waits for an upstream.
const LINGERS: Duration = Duration::from_millis(50);

pub(super) struct Worker<H> {
    sockets: Vec<Socket>,
    front: Arc<Front<H>>,
    /// Queries that had to wait lately; 0: nobody looks any more.
    waited: Arc<AtomicU64>,
}

/// A socket and its own address; where that is a wildcard, each datagram says which it came to.
struct Socket {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    /// Only our own [`super::probe::Probe`] can send here.
    is_probed: bool,
}

/// Starts thread `number`, which answers on `sockets` and to the probe until the end, and then those whom it still owes an answer.
///
/// # Errors
/// Where a socket cannot be set up, or the thread not be started.
pub(super) fn start<H: Handler>(
    number: usize,
    sockets: Vec<UdpSocket>,
    probed: UdpSocket,
    front: Arc<Front<H>>,
) -> io::Result<thread::JoinHandle<()>> {
    for socket in &sockets {
        datagram::prepare(socket)?;
    }
    let (say, said) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        if let Err(error) = schedule::at_once() {
            debug!(%error, "others may hold up answers for as long as their slice is");
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(STEPS)
            .build();
        let begun = runtime.and_then(|runtime| {
            let worker = runtime.block_on(async { Worker::new(sockets, probed, Arc::clone(&front)) })?;
            Ok((runtime, worker))
        });
        match begun {
            Ok((runtime, worker)) => {
                // whoever started it waits for this word
                let _ = say.send(Ok(()));
                runtime.block_on(async {
                    front.ending.run_until_cancelled(worker.run()).await;
                    front.last_answers().await;
                });
            }
            Err(error) => {
                let _ = say.send(Err(error));
            }
        }
    };
    let thread = thread::Builder::new()
        .name(format!("dns-udp-{number}"))
        .spawn(run)?;
    said.recv().map_err(io::Error::other)??;
    Ok(thread)
}

impl<H: Handler> Worker<H> {
    /// Must be called within the runtime that is to read.
    fn new(sockets: Vec<UdpSocket>, probed: UdpSocket, front: Arc<Front<H>>) -> io::Result<Self> {
        let watched = |socket: UdpSocket, is_probed| {
            socket.set_nonblocking(true)?;
            Ok(Socket {
                address: socket.local_addr()?,
                socket: Arc::new(socket),
                is_probed,
            })
        };
        let all = sockets.into_iter().map(|socket| watched(socket, false));
        let sockets = all.chain([watched(probed, true)]).collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            front,
            waited: Arc::default(),
        })
    }

    /// For ever.
    async fn run(self) {
        let room = RefCell::new(Room::default());
        join_all(self.sockets.iter().map(|socket| self.follow(socket, &room))).await;
    }

    async fn follow(&self, socket: &Socket, room: &RefCell<Room<H>>) {
        let followed = async {
            let readable = readable(Arc::clone(&socket.socket))?;
            loop {
                let mut ready = readable.readable().await?;
                if self.read(socket, &mut room.borrow_mut()) {
                    ready.clear_ready();
                } else {
                    drop(ready);
                    tokio::task::yield_now().await;
                }
            }
        };
        let ended: io::Result<Infallible> = followed.await;
        let Err(error) = ended;
        error!(%error, "a DNS socket cannot be waited for: nobody is answered there any more");
    }

    /// Keeps a timer near for as long as queries come that have to wait. Each of them sets timers; tokio wakes itself by a system
    /// call for one that is nearer than all others, on its own thread as well.
    fn linger(&self) {
        if self.waited.fetch_add(1, Relaxed) > 0 {
            return;
        }
        let waited = Arc::clone(&self.waited);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LINGERS).await;
                if waited.swap(1, Relaxed) == 1 {
                    waited.store(0, Relaxed);
                    return;
                }
            }
        });
    }
}

/// Without interest in room for answers: each answer that is sent would wake its thread once more.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn readable(socket: Arc<UdpSocket>) -> io::Result<AsyncFd<Arc<UdpSocket>>> {
    // SAFETY: the socket owns its descriptor, always gives the same one, and closes it when the last owner drops it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
