//! TCP connections that were redirected here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use daemon::status::Counter;
use proto::gate17::v1::Tunnelled;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use verdict::Protocol;

use crate::{
    announced::{Announced, Ends},
    link::Link,
    redirected::{destination, plain},
    splice::{Carried, breaks_with_us, reset, splice},
    tunnel::Tunnel,
    wire,
};

/// After a failed accept, for descriptors to become free.
const BREATHER: Duration = Duration::from_millis(50);
/// Between two looks for programs that did not come.
const TIDY: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Octets.
    pub carried: Carried,
    /// Connections that nobody announced: refused.
    pub strangers: Counter,
    /// Refused, since too many are open.
    pub crowded: Counter,
}

/// Opens streams for connections that the process before this one had announced.
pub trait Opener: Clone + Send + Sync + 'static {
    /// None where it cannot be had.
    fn stream(&self, connection: &Tunnelled) -> impl Future<Output = Option<Tunnel>> + Send;
}

/// Takes connections in, on every listening socket.
#[derive(Clone, Debug)]
pub struct Doorman<O> {
    /// For who was let go to an entry that ended before it took him in.
    pub opener: O,
    /// Streams that wait for them.
    pub announced: Announced<Tunnel>,
    /// Whose is it?
    pub link: Link,
    /// What is counted.
    pub counters: Counters,
    /// Places for connections.
    pub places: Arc<Semaphore>,
}

impl<O: Opener> Doorman<O> {
    /// Until `shutdown`.
    pub async fn accept(self, listener: TcpListener, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            let Ok((program, _)) = accepted else {
                tokio::time::sleep(BREATHER).await;
                continue;
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.counters.crowded.add(1);
                reset(program);
                continue;
            };
            let doorman = self.clone();
            tokio::spawn(async move {
                doorman.carry(program).await;
                drop(place);
            });
        }
    }

    /// Closes streams whose program did not come.
    pub async fn tidy(&self) {
        loop {
            tokio::time::sleep(TIDY).await;
            self.announced.tidy(Instant::now());
        }
    }

    async fn carry(&self, program: TcpStream) {
        breaks_with_us(&program);
        let Some(stream) = self.stream_of(&program).await else {
            self.counters.strangers.add(1);
            return reset(program);
        };
        // what programs send in small pieces is to arrive at once
        let _ = program.set_nodelay(true);
        splice(program, stream, &self.counters.carried).await;
    }

    /// The stream that was opened for this connection.
    async fn stream_of(&self, program: &TcpStream) -> Option<Tunnel> {
        let ends = Ends {
            client: plain(program.peer_addr().ok()?),
            destination: destination(program)?,
        };
        if let Some(stream) = self.announced.take(ends) {
            return Some(stream);
        }
        // the kernel gives another port where two connections from one port would look the same here
        let own = plain(program.local_addr().ok()?);
        let connection = self.link.whose(Protocol::TCP, ends.client, own).await?;
        match self.announced.take(ends_of(&connection)?) {
            Some(stream) => Some(stream),
            // the kernel kept it while this service was restarted: nothing of it was carried yet
            None => self.opener.stream(&connection).await,
        }
    }
}

/// As its program sees it.
pub fn ends_of(connection: &Tunnelled) -> Option<Ends> {
    let flow = connection.flow.as_ref()?;
    Some(Ends {
        client: wire::end(&flow.local_address, flow.local_port)?,
        destination: wire::end(&flow.remote_address, flow.remote_port)?,
    })
}
