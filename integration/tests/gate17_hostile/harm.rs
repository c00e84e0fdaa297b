//! What some clients do to a node while another is served.

use std::{fs, net::TcpListener};

use bytes::Bytes;
use http::StatusCode;
use integration::Running;

use crate::{
    client::{Client, connect, read, within},
    place::{OPEN, Place, text},
};

/// KiB that a program has in memory.
pub(crate) fn resident(process: &Running) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid().as_raw_nonzero())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

async fn is_served(client: &Client, echo: &str) {
    let (response, mut stream) = client.open(echo).await;
    assert_eq!(response.status(), StatusCode::OK);
    stream.send_data(Bytes::from_static(b"still\n"), true).unwrap();
    assert_eq!(read(&mut response.into_body(), usize::MAX).await, b"still\n");
}

#[test]
fn what_destinations_do_not_read_costs_a_bounded_amount() {
    let place = Place::new(&format!("{OPEN}limits.buffered_per_network = 4096\n"));
    let echo = place.far.echo(place.server.v4, 7000).to_string();
    let deaf = place
        .far
        .enter(|| TcpListener::bind((place.server.v4, 7009)))
        .unwrap();
    let (node, target) = (
        (place.node.v4, 443).into(),
        deaf.local_addr().unwrap().to_string(),
    );
    let process = &place.process;
    within(&place.client, async move {
        let (bad, good) = (connect(node).await, connect(node).await);
        is_served(&good, &echo).await;
        let mut held = Vec::new();
        for _ in 0..60 {
            let (response, mut stream) = bad.open(&target).await;
            assert_eq!(response.status(), StatusCode::OK);
            for _ in 0..8 {
                // more than any window: what cannot be sent waits here
                let _ = stream.send_data(Bytes::from(vec![0; 1 << 20]), false);
            }
            held.push((response, stream));
        }
        let mut most = 0;
        for _ in 0..40 {
            most = most.max(resident(process));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // 60 windows of 4 MiB would be 240
        assert!(most < 150 << 10, "{most} KiB");
        is_served(&good, &echo).await;
    });
}

#[test]
fn floods_of_frames_are_put_an_end_to_or_wait_and_others_are_served() {
    let place = Place::new(OPEN);
    let echo = place.far.echo(place.server.v4, 7000).to_string();
    let node = (place.node.v4, 443).into();
    for (kind, ends) in [
        ("resets", true),
        ("continuations", true),
        ("bombs", false),
        ("pings", false),
        ("settings", false),
        ("streams", false),
    ] {
        let mut flood = place.client.command("python3");
        flood.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/gate17_hostile/flood.py"
        ));
        let flood = flood.args([&place.node.v4.to_string(), kind]).output().unwrap();
        let said = text(&flood);
        assert!(flood.status.success(), "{kind}: {said}");
        assert!(!ends || said.contains("it ended"), "{kind}: {said}");
        let kibibytes = resident(&place.process);
        assert!(kibibytes < 150 << 10, "{kind}: {kibibytes} KiB; {said}");
        println!("{kind}: {kibibytes} KiB; {said}");
        within(&place.client, async {
            is_served(&connect(node).await, &echo).await;
        });
    }
}
