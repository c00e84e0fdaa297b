//! What goes wrong on the way to one server, before it has the server's name on it.

use std::{io, sync::Arc};

use hickory_net::NetError;

use super::Error;

/// What this host has run out of.
const EXHAUSTED: [i32; 4] = [libc::ENOMEM, libc::ENFILE, libc::EMFILE, libc::ENOBUFS];

/// See [`Error`], which it becomes.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// The handshake: name, authority, time.
    Tls(Arc<str>),
    /// The network, or the other side closed.
    Io(Arc<str>),
    /// This host has no more sockets or memory for them; the server is not to blame.
    Local(Arc<str>),
    /// No answer in time.
    Timeout,
    /// An answer that is none.
    Nonsense(Arc<str>),
}

impl Trouble {
    pub(crate) fn io(what: impl std::fmt::Display) -> Self {
        Self::Io(what.to_string().into())
    }

    pub(crate) fn nonsense(what: impl std::fmt::Display) -> Self {
        Self::Nonsense(what.to_string().into())
    }

    /// Names the server.
    pub(crate) fn at(self, upstream: &Arc<str>) -> Error {
        let upstream = Arc::clone(upstream);
        match self {
            Self::Tls(problem) => Error::Tls { upstream, problem },
            Self::Io(problem) => Error::Unreachable { upstream, problem },
            Self::Local(problem) => {
                tracing::debug!(%upstream, %problem, "no socket for a query");
                Error::Busy { upstream }
            }
            Self::Timeout => Error::Timeout { upstream },
            Self::Nonsense(problem) => Error::Nonsense { upstream, problem },
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Timeout;
        }
        if error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code)) {
            return Self::Local(error.to_string().into());
        }
        let inner = error.get_ref();
        let is_tls = inner.is_some_and(|inner| {
            inner.is::<rustls::Error>() || inner.downcast_ref().is_some_and(is_quic_handshake)
        });
        if is_tls {
            Self::Tls(error.to_string().into())
        } else {
            Self::io(error)
        }
    }
}

/// Whether a QUIC connection failed for what TLS said: codes 0x100 to 0x1ff carry its alerts (RFC 9001 §4.8).
fn is_quic_handshake(error: &quinn::ConnectionError) -> bool {
    let code = match error {
        quinn::ConnectionError::TransportError(error) => u64::from(error.code),
        quinn::ConnectionError::ConnectionClosed(frame) => u64::from(frame.error_code),
        _ => return false,
    };
    (0x100..0x200).contains(&code)
}

impl From<NetError> for Trouble {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            NetError::RustlsError(error) => Self::Tls(error.to_string().into()),
            NetError::QuinnConnection(error) => io::Error::from(error).into(),
            NetError::Io(error) => match Arc::try_unwrap(error) {
                Ok(error) => error.into(),
                Err(shared) => Self::io(shared),
            },
            NetError::Proto(error) => Self::nonsense(error),
            other => Self::io(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_not_the_servers_fault() {
        for (code, healthy) in [
            (libc::EMFILE, true),
            (libc::ENOBUFS, true),
            (libc::ECONNREFUSED, false),
        ] {
            let error = Trouble::from(io::Error::from_raw_os_error(code)).at(&"udp://192.0.2.1".into());
            assert_eq!(!error.is_ill_health(), healthy, "{error}");
        }
    }
}
