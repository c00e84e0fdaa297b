//! Many questions at once over one byte stream, TCP or TLS (RFC 7766, 7858): each message after its length in two bytes,
//! answers in any order.
//!
//! Two tasks hold the stream: one writes what comes through a channel, so that a query given up by its asker never leaves
//! half a message behind; one reads, and gives each answer to the query that it fits. Both end when the other side closes,
//! when nothing was asked for a while, or when the connection is no longer held.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    message::{self, Match},
    trouble::Trouble,
};

/// So many queries wait for the writer at most; what waits for answers is bounded per server.
const QUEUE: usize = 64;
/// The most that is written at once.
const BATCH: usize = 32;

/// A connection in use.
#[derive(Debug)]
pub(crate) struct StreamConnection {
    to_writer: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<HashMap<u16, Waiting>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    sent: Vec<u8>,
    answer: oneshot::Sender<Vec<u8>>,
}

/// Takes a query from the list when its asker has gone.
struct Place<'a> {
    shared: &'a Shared,
    id: u16,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.id);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u16, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is answered any more: dropping the senders tells them.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiting().clear();
    }

    /// Enters a query under an id that is free, and writes the id into it.
    fn enter(&self, query: &mut [u8], answer: oneshot::Sender<Vec<u8>>) -> Place<'_> {
        let mut waiting = self.waiting();
        let mut random = rand::rng();
        let id = loop {
            let id: u16 = random.random();
            if !waiting.contains_key(&id) {
                break id;
            }
        };
        if let Some(place) = query.get_mut(..2) {
            place.copy_from_slice(&id.to_be_bytes());
        }
        let sent = query.to_vec();
        waiting.insert(id, Waiting { sent, answer });
        Place { shared: self, id }
    }
}

impl StreamConnection {
    /// Takes a stream that is ready; it is closed when nothing was asked for `idle`.
    pub(crate) fn start<S>(stream: S, idle: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = split(stream);
        let (to_writer, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        tokio::spawn(write(writer, queue, Arc::clone(&shared), idle));
        tokio::spawn(read(reader, Arc::clone(&shared), to_writer.downgrade()));
        Self { to_writer, shared }
    }

    /// Whether nothing more can be asked.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends a query, under an id of this connection's choice, and waits for its answer.
    pub(crate) async fn exchange(&self, query: &[u8]) -> Result<Vec<u8>, Trouble> {
        let closed = || Trouble::io("the connection was closed");
        let mut query = query.to_vec();
        let (to_us, answer) = oneshot::channel();
        let _place = self.shared.enter(&mut query, to_us);
        if self.is_closed() {
            return Err(closed());
        }
        self.to_writer.send(query).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

async fn write<S: AsyncWrite>(
    mut stream: WriteHalf<S>,
    mut queue: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    idle: Duration,
) {
    let mut messages = Vec::with_capacity(BATCH);
    let mut bytes = Vec::new();
    loop {
        messages.clear();
        bytes.clear();
        match timeout(idle, queue.recv_many(&mut messages, BATCH)).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) if shared.waiting().is_empty() => break,
            Err(_) => continue,
        }
        for message in &messages {
            bytes.extend_from_slice(&u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        if written.await.is_err() {
            break;
        }
    }
    shared.close();
    let _ = stream.shutdown().await;
}

async fn read<S: AsyncRead>(mut stream: ReadHalf<S>, shared: Arc<Shared>, writer: mpsc::WeakSender<Vec<u8>>) {
    let mut head = [0_u8; 2];
    let mut message = Vec::new();
    loop {
        let got = async {
            stream.read_exact(&mut head).await?;
            message.resize(usize::from(u16::from_be_bytes(head)), 0);
            stream.read_exact(&mut message).await
        };
        // What the other side sends when we have let go of the connection is of no interest, nor how it ends.
        if got.await.is_err() || writer.strong_count() == 0 {
            break;
        }
        give(&shared, &message);
    }
    shared.close();
}

/// Gives an answer to whom it fits; others are left unread, as over UDP.
fn give(shared: &Shared, message: &[u8]) {
    let Some(id) = message
        .get(..2)
        .and_then(|id| Some(u16::from_be_bytes(id.try_into().ok()?)))
    else {
        return;
    };
    let mut waiting = shared.waiting();
    let fits = waiting
        .get(&id)
        .is_some_and(|one| matches!(message::matches(&one.sent, message), Match::Answer | Match::Case));
    if fits && let Some(one) = waiting.remove(&id) {
        let _ = one.answer.send(message.to_vec());
    }
}
