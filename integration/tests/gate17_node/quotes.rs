//! Quotes by UDP: off, unless their owner wants them; never more than what was asked with.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use crate::place::Place;

const QUIET: Duration = Duration::from_millis(500);

/// Asks once from a port; what came back.
fn ask(place: &Place, from: u16, octets: usize) -> Option<Vec<u8>> {
    let node = SocketAddr::from((place.node.v4, 17));
    let socket = place.client.enter(|| UdpSocket::bind(("0.0.0.0", from))).unwrap();
    socket.set_read_timeout(Some(QUIET)).unwrap();
    socket.send_to(&vec![b'?'; octets], node).unwrap();
    let mut quote = [0; 2048];
    let (count, by) = socket.recv_from(&mut quote).ok()?;
    assert_eq!(by, node);
    Some(quote[..count].to_vec())
}

#[test]
fn nobody_is_answered_where_it_is_off() {
    let place = Place::new("");
    assert_eq!(ask(&place, 0, 600), None);
}

#[test]
fn an_answer_is_never_longer_than_its_question_and_comes_seldom() {
    let place = Place::new("listen_udp = ['0.0.0.0:17']\n");
    let long = integration::eventually("there is a quote", || ask(&place, 0, 600));
    assert!(long.len() <= 512 && long.ends_with(b"\r\n"), "{long:?}");
    assert_eq!(ask(&place, 0, 3), None, "none is that short");
    assert_eq!(ask(&place, 17, 600), None, "no quotes for quotes");
    // one network: a few, then one a second
    let answers = (0..40)
        .map(|_| {
            let node = SocketAddr::from((place.node.v4, 17));
            let socket = place.client.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.send_to(&[b'?'; 600], node).unwrap();
            socket
        })
        .collect::<Vec<_>>();
    std::thread::sleep(QUIET);
    let mut quote = [0; 2048];
    let count = answers
        .iter()
        .filter(|socket| socket.recv(&mut quote).is_ok())
        .count();
    assert!((1..=6).contains(&count), "{count} of 40 were answered");
}
