use bytes::Bytes;
use h2::server;
use http::{Method, Request};
use tokio::io::{AsyncWriteExt as _, duplex};

use super::*;

/// Of TLS, full: what the next hop's TLS writes.
const RECORD: usize = 16_384 + 22;

#[tokio::test]
async fn the_next_hops_records_are_one_frame() {
    let (near, far) = duplex(1 << 20);
    let far = tokio::spawn(async move {
        let mut connection = server::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .max_frame_size(256 << 10)
            .handshake::<_, Bytes>(far)
            .await
            .unwrap();
        let (request, _respond) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let mut from = request.into_body();
        from.data().await.unwrap().unwrap()
    });
    let (mut send, connection) = h2::client::Builder::new()
        .max_send_buffer_size(1 << 20)
        .handshake::<_, Bytes>(near)
        .await
        .unwrap();
    tokio::spawn(connection);
    // the node's settings say how long a frame may be
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("198.18.0.1:443")
        .body(())
        .unwrap();
    let (answer, to) = send.send_request(request, false).unwrap();
    let mut tunnel = Tunnel::early("alpha", answer, to, &Arc::new(AtomicBool::new(false)));
    assert!(tunnel.is_write_vectored());
    let records: Vec<Vec<u8>> = (0..8).map(|number| vec![number; RECORD]).collect();
    let parts: Vec<IoSlice<'_>> = records.iter().map(|record| IoSlice::new(record)).collect();
    assert_eq!(tunnel.write_vectored(&parts).await.unwrap(), 8 * RECORD);
    assert!(far.await.unwrap() == records.concat());
}

#[test]
fn a_piece_with_its_head_fills_records() {
    assert_eq!((PIECE + 9) % 16_384, 0);
}
