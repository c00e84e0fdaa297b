//! Who talks to whom through a node is in no line of its log, short of the most verbose, and in no figure.

use std::{fs, net::UdpSocket};

use bytes::Bytes;
use integration::{NameServer, binary, eventually};

use crate::{
    client::{connect, read, within},
    place::{OPEN, Place, text},
};

const NAME: &str = "whom-somebody-asks-for.example";
const WRONG: &str = "a-wrong-token";

/// A question for its address (RFC 1035, section 4.1).
fn asked_for(name: &str) -> Vec<u8> {
    let mut question = vec![0x17, 0x17, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    question
}

#[test]
fn the_log_of_a_node_names_neither_clients_nor_destinations_and_its_figures_name_nobody() {
    let config = format!("{OPEN}resolver = '198.18.53.53:53'\nlisten_udp = ['0.0.0.0:17']\n");
    let place = Place::started(&config, |host, folder| {
        let mut command = host.command(binary("portmaster-gate17-node"));
        command
            .arg("--root")
            .arg(folder)
            .env("PORTMASTER_LOG", "debug")
            .env("NO_COLOR", "1");
        command
    });
    let resolver = std::net::Ipv4Addr::new(198, 18, 53, 53);
    place.far.add_address(resolver);
    place
        .host
        .sh(&format!("ip route add {resolver} via {}", place.server.v4));
    let records = [format!("address=/{NAME}/{}", place.server.v4)];
    let names = NameServer::start(&place.far, &[resolver.into()], &records, place.folder.path());
    let (_files, url, _) = place.files(1000);

    let echoes = [place.server.v4.into(), std::net::IpAddr::from(place.server.v6)]
        .map(|address| place.far.echo(address, 7000));
    let udp = place
        .far
        .enter(|| UdpSocket::bind((place.server.v4, 7001)))
        .unwrap();
    let node = (place.node.v4, 443).into();
    within(&place.client, async move {
        let client = connect(node).await;
        for to in echoes.map(|echo| echo.to_string()) {
            let (response, mut stream) = client.open(&to).await;
            assert_eq!(response.status(), 200, "{to}");
            stream.send_data(Bytes::from_static(b"one\n"), false).unwrap();
            assert_eq!(read(&mut response.into_body(), 4).await, b"one\n");
        }
        for to in [
            "10.17.99.99:1",
            "192.168.77.1:80",
            "nobody-at-all.example:80",
            "127.0.0.1:1",
            "[::1]:1",
        ] {
            assert_ne!(client.open(to).await.0.status(), 200, "{to}");
        }
        let (response, _stream) = client.open_udp(udp.local_addr().unwrap()).await;
        assert_eq!(response.status(), 200);
    });
    let question = place.folder.path().join("question");
    fs::write(&question, asked_for(NAME)).unwrap();
    let question = format!("@{}", question.display());
    let kind = "Content-Type: application/dns-message";
    let url_of_names = format!("https://{}/dns-query", place.node.v4);
    let answer = place.curl(&["-k", "-H", kind, "--data-binary", &question, &url_of_names]);
    assert!(
        answer.stdout.ends_with(&place.server.v4.octets()),
        "{}",
        text(&answer)
    );
    assert!(names.asked(NAME) >= 1);
    for curl in [
        place.curl(&[
            "--proxy-insecure",
            "--proxy",
            &format!("https://{}", place.node.v4),
            &url,
        ]),
        place.through(&["--proxy-user", &format!("x:{WRONG}"), &url]),
        place.curl(&["-k", &format!("https://{}/a-page", place.node.v4)]),
        place.curl(&[&format!("http://{}:17/", place.node.v4)]),
    ] {
        assert!(curl.status.success(), "{}", text(&curl));
    }
    drop(place.say(443, b"\x16\x03\x01\x00\xff\x01"));
    drop(place.say(17, b"what is this\r\n"));

    let figures = place
        .folder
        .path()
        .join("run/portmaster/gate17-node/metrics.prom");
    // those of before say nothing of all this
    let _none = fs::remove_file(&figures);
    let metrics = eventually("figures are written", || fs::read_to_string(&figures).ok());
    let log = place.process.output();
    assert!(log.contains("DEBUG"), "so much is said: {log}");
    let client = place.client.sh("ip -o address show scope global");
    let ends = [place.server.v4.to_string(), place.server.v6.to_string()];
    let own = client.split_whitespace().filter_map(|word| word.split_once('/'));
    let private: Vec<String> = own
        .map(|(address, _)| address.to_owned())
        .chain(ends)
        .chain(
            [
                NAME,
                WRONG,
                "10.17.99.99",
                "192.168.77.1",
                "nobody-at-all",
                "127.0.0.1:1",
            ]
            .map(str::to_owned),
        )
        .collect();
    assert!(private.len() >= 10, "{private:?}");
    for word in &private {
        assert!(!metrics.contains(word), "{word} is in {metrics}");
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "{word}");
    }
}
