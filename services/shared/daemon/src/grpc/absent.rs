//! Why a call came to nothing: because nobody takes it, or because of somebody who is just ending or starting.

use std::{error::Error, io};

use tonic::Status as Refusal;

/// Whether nobody listens there: the socket's file is not there, or was left by somebody, or the service is stopped. A service manager keeps the socket of a
/// service that it restarts, and a call that is lost to one that was killed says nothing about the next.
pub fn is_absent(refusal: &Refusal) -> bool {
    let mut source = refusal.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::NotConnected
            );
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use proto::resolver::v1::{LookupRequest, process_resolver_client::ProcessResolverClient};

    use super::*;
    use crate::grpc::channel;

    async fn called(path: &std::path::Path) -> Refusal {
        let mut client = ProcessResolverClient::new(channel(path));
        client.lookup(LookupRequest::default()).await.unwrap_err()
    }

    #[tokio::test]
    async fn nobody_is_told_from_somebody_who_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(is_absent(&called(&path).await), "no such file");
        let listener = UnixListener::bind(&path).unwrap();
        let ends = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(!is_absent(&called(&path).await), "it ends with the call");
        ends.join().unwrap();
        assert!(is_absent(&called(&path).await), "nobody listens any more");
    }
}
