//! What no client can do.

use std::{fs, io::Read as _};

use http::StatusCode;

use crate::{
    client::{connect, within},
    place::{OPEN, Place, text},
};

#[test]
fn callers_who_never_begin_shut_nobody_else_out() {
    let place = Place::new(&format!(
        "{OPEN}limits.handshakes_per_network = 20\nlimits.handshake = 1\n"
    ));
    let mut idle: Vec<_> = (0..60)
        .map(|_| place.say(443, b"\x16\x03\x01").unwrap())
        .collect();
    // too many of one network are not listened to; the rest goes when its time is over, and then there is room again
    for stream in &mut idle {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
    }
    let said = text(&place.curl(&[
        "-k",
        "--retry",
        "5",
        "--retry-all-errors",
        &format!("https://{}/", place.node.v4),
    ]));
    assert!(said.contains("Welcome to nginx!"), "{said}");
}

#[test]
fn streams_that_nobody_reads_cost_a_bounded_amount() {
    let place = Place::new(&format!("{OPEN}limits.buffered_per_network = 4096\n"));
    let (_server, url, _big) = place.files(20 << 20);
    let target = url
        .trim_start_matches("http://")
        .trim_end_matches("/big")
        .to_owned();
    let (node, pid) = ((place.node.v4, 443).into(), place.process.pid().as_raw_nonzero());
    within(&place.client, async move {
        let client = connect(node).await;
        let mut held = Vec::new();
        for _ in 0..40 {
            let (response, mut stream) = client.open(&target).await;
            assert_eq!(response.status(), StatusCode::OK);
            stream
                .send_data("GET /big HTTP/1.0\r\n\r\n".into(), false)
                .unwrap();
            held.push((response, stream));
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kibibytes: usize = rss.split_whitespace().next().unwrap().parse().unwrap();
        assert!(kibibytes < 100 << 10, "{rss}: 40 streams of 20 MiB each");
    });
}

#[test]
fn more_streams_than_a_network_may_have_are_refused() {
    let place = Place::new(&format!("{OPEN}limits.streams_per_network = 2\n"));
    let echo = place.far.echo(place.server.v4, 7000).to_string();
    let node = (place.node.v4, 443).into();
    within(&place.client, async move {
        let client = connect(node).await;
        let _held = [client.open(&echo).await, client.open(&echo).await];
        let (response, _stream) = client.open(&echo).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let said = response.headers()["proxy-status"].to_str().unwrap();
        assert!(said.ends_with("error=connection_limit_reached"), "{said}");
    });
}
