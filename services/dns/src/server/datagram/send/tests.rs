//! With sockets on loopback.

use super::*;
use crate::server::datagram::{Batch, NOBODY, prepare};
use std::net::{SocketAddr, UdpSocket};

/// Answers of the lengths that `lengths` says to whoever asks, and what each of the `clients` gets.
fn answered(ours: &str, clients: usize, lengths: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let server = UdpSocket::bind(ours).unwrap();
    prepare(&server).unwrap();
    let asked = match server.local_addr().unwrap() {
        SocketAddr::V4(any) => SocketAddr::new([127, 0, 0, 17].into(), any.port()),
        SocketAddr::V6(any) => SocketAddr::new("::1".parse().unwrap(), any.port()),
    };
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let client = UdpSocket::bind(SocketAddr::new(asked.ip(), 0)).unwrap();
            // nothing but what comes from the address that was asked is heard
            client.connect(asked).unwrap();
            client
        })
        .collect();
    for _ in lengths {
        for client in &clients {
            client.send(b"?").unwrap();
        }
    }
    let mut batch = Batch::new();
    batch.receive(&server).unwrap();
    assert_eq!(batch.count(), lengths.len() * clients.len());
    let messages: Vec<Vec<u8>> = (0..batch.count())
        .map(|at| vec![u8::try_from(at).unwrap(); lengths[at / clients.len()]])
        .collect();
    let answers: Vec<_> = messages
        .iter()
        .enumerate()
        .map(|(at, message)| Outgoing {
            message,
            way: batch.get(at).unwrap().1,
        })
        .collect();
    let mut sender = Sender::default();
    assert_eq!(
        sender.send(&server, answers.len(), |at| answers.get(at).copied()),
        answers.len()
    );
    let heard = |client: &UdpSocket| {
        client.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2048];
        let mut heard: Vec<Vec<u8>> = Vec::new();
        while let Ok(length) = client.recv(&mut buffer) {
            heard.push(buffer[..length].to_vec());
        }
        heard.sort();
        heard
    };
    clients.iter().map(heard).collect()
}

#[test]
fn each_client_gets_its_own_answers_whole_and_from_the_address_that_it_asked() {
    let lengths = [45, 46, 45, 512, 45, 46, 1232, 12, 45, 0];
    for ours in ["0.0.0.0:0", "[::]:0"] {
        let (clients, heard) = (3, answered(ours, 3, &lengths));
        for (who, heard) in heard.into_iter().enumerate() {
            let wanted: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(at, length)| vec![u8::try_from(at * clients + who).unwrap(); *length])
                .collect();
            let mut wanted = wanted;
            wanted.sort();
            assert_eq!(heard, wanted, "client {who} at {ours}");
        }
    }
}

#[test]
fn answers_of_one_length_to_one_client_are_one_packet() {
    let way = |port: u8| {
        let mut way = NOBODY;
        way.peer[3] = port;
        way.peer_length = 16;
        way
    };
    let (first, second) = (way(1), way(2));
    let long = vec![1; 40_000];
    let short = vec![2; 50];
    let shorter = vec![3; 30];
    let outgoing = |message, way| Outgoing { message, way };
    let answers: Vec<_> = [&first, &second]
        .into_iter()
        .flat_map(|way| {
            [&short, &shorter, &long, &short, &long, &shorter]
                .map(|message| outgoing(message.as_slice(), way))
        })
        .collect();
    let packets = |together| {
        let mut sender = Sender::default();
        let answer = |at: usize| answers.get(at).copied();
        sender.put_in_order(answers.len(), &answer);
        sender.gather(&answer, together);
        let counts = sender.packets.iter().map(|packet| (packet.length, packet.count));
        counts.collect::<Vec<_>>()
    };
    // two long ones are too long for a packet; the last of one may be shorter, and then nothing follows
    let one = [(40_000, 1), (40_000, 2), (50, 2), (30, 1)];
    assert_eq!(packets(true), [one, one].concat());
    assert_eq!(packets(false).len(), answers.len());
    let many = vec![outgoing(&short, &first); MOST + 1];
    let mut sender = Sender::default();
    let answer = |at: usize| many.get(at).copied();
    sender.put_in_order(many.len(), &answer);
    sender.gather(&answer, true);
    assert_eq!(sender.packets.len(), 2);
}
