//! What a client measures with: for who is admitted, so much, and so often.

use bytes::Bytes;
use http::{Method, Request};

use crate::{
    client::{connect, read, within},
    place::{OPEN, Place, text},
};

/// SHA-256 of "open sesame".
const TOKEN: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
const SHOWN: &str = "Authorization: Bearer open sesame";

#[test]
fn who_is_admitted_measures_so_much_and_so_often_and_strangers_see_no_such_page() {
    let config = OPEN.replace("'none'", &format!("{{ token = ['{TOKEN}'] }}"));
    let place = Place::new(&format!("{config}limits = {{ measure = 2 }}\n"));
    let url = format!("https://{}/.well-known/gate17/speed", place.node.v4);
    let ask = |more: &[&str], query: &str| {
        let url = format!("{url}{query}");
        let said = "%{stderr}%{http_code} %{size_download}";
        let all = [&["-k", "-w", said, url.as_str()], more].concat();
        let answer = place.curl(&all);
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        (said, answer.stdout)
    };
    let admitted = ["--http2", "-H", SHOWN];
    assert_eq!(ask(&admitted, "?octets=100000").0, "200 100000");
    let most = 2 << 20;
    assert_eq!(
        ask(&admitted, "?octets=999999999").0,
        format!("200 {most}"),
        "cut to what there is"
    );
    assert!(ask(&admitted, "?octets=0").0.starts_with("400"));

    let (file, all) = (place.folder.path().join("body"), 1_500_000);
    std::fs::write(&file, vec![0; all]).unwrap();
    let body = format!("@{}", file.display());
    let (said, count) = ask(&[&admitted[..], &["--data-binary", &body]].concat(), "");
    assert!(said.starts_with("200"), "{said} {}", place.process.output());
    assert_eq!(String::from_utf8_lossy(&count), all.to_string());
    // four at once, then one a second: some of these came too early
    let often: Vec<_> = (0..8).map(|_| ask(&admitted, "?octets=1").0).collect();
    assert!(often.iter().any(|said| said.starts_with("429 0")), "{often:?}");

    for stranger in [&["--http2"][..], &["--http1.1"], &["--http1.1", "-H", SHOWN]] {
        let (said, page) = ask(stranger, "?octets=10");
        let page = String::from_utf8_lossy(&page).into_owned();
        assert!(
            said.starts_with("404") && page.contains("nginx"),
            "{stranger:?}: {said} {page}"
        );
    }
}

#[test]
fn who_sends_more_than_a_node_takes_is_told_how_much_came() {
    let place = Place::new(&format!("{OPEN}limits = {{ measure = 1 }}\n"));
    let node = (place.node.v4, 443).into();
    let said = within(&place.client, async {
        let client = connect(node).await;
        let mut send = client.send.clone().ready().await.unwrap();
        let request = Request::builder()
            .method(Method::POST)
            .uri("https://localhost/.well-known/gate17/speed")
            .body(())
            .unwrap();
        let (answer, mut to) = send.send_request(request, false).unwrap();
        let sending = async {
            // the stream ends when the node has enough
            while to.send_data(Bytes::from_static(&[0; 16 << 10]), false).is_ok() {
                to.reserve_capacity(16 << 10);
                let granted = std::future::poll_fn(|context| to.poll_capacity(context)).await;
                if !matches!(granted, Some(Ok(_))) {
                    break;
                }
            }
        };
        let ((), answer) = tokio::join!(sending, answer);
        read(&mut answer.unwrap().into_body(), 20).await
    });
    let came: u64 = String::from_utf8(said).unwrap().parse().unwrap();
    assert!((1 << 20..8 << 20).contains(&came), "{came}");
}

#[test]
fn where_nobody_measures_there_is_no_such_page() {
    let place = Place::new(&format!("{OPEN}limits = {{ measure = 0 }}\n"));
    let url = format!("https://{}/.well-known/gate17/speed?octets=10", place.node.v4);
    let said = text(&place.curl(&["-ki", "--http2", &url]));
    assert!(said.contains("404"), "{said}");
}
