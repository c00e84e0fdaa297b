//! A connection of TLS that is carried on and can still be asked what it exports: by that, a client proves its key on this
//! very connection (RFC 9729).

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use gate17_proto::access::{EXPORTED, EXPORTER_LABEL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// What a connection exports for a context; nothing, when it is over.
pub struct Exporter(Export);

type Export = Box<dyn Fn(&[u8]) -> Option<[u8; EXPORTED]> + Send + Sync>;

impl fmt::Debug for Exporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Exporter")
    }
}

impl Exporter {
    /// By such a function.
    pub fn new(export: impl Fn(&[u8]) -> Option<[u8; EXPORTED]> + Send + Sync + 'static) -> Self {
        Self(Box::new(export))
    }

    /// RFC 8446, section 7.5, for [`EXPORTER_LABEL`].
    pub fn export(&self, context: &[u8]) -> Option<[u8; EXPORTED]> {
        (self.0)(context)
    }
}

/// The connection itself. Only its own task reads and writes, so nobody waits for the lock.
#[derive(Debug)]
pub struct Shared<I>(Arc<Mutex<TlsStream<I>>>);

/// Both of them. The exporter keeps nothing open.
pub fn share<I: Send + 'static>(stream: TlsStream<I>) -> (Shared<I>, Exporter) {
    let shared = Arc::new(Mutex::new(stream));
    let weak = Arc::downgrade(&shared);
    let export = move |context: &[u8]| {
        let stream = weak.upgrade()?;
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        let exported =
            stream
                .get_ref()
                .1
                .export_keying_material([0; EXPORTED], EXPORTER_LABEL, Some(context));
        exported.ok()
    };
    (Shared(shared), Exporter::new(export))
}

impl<I> Shared<I> {
    fn stream(&self) -> MutexGuard<'_, TlsStream<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Shared<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_read(context, into)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Shared<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write(context, octets)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_shutdown(context)
    }
}
