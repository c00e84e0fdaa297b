use super::*;
use proptest::prelude::*;

fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 7]);
    bytes.extend(payload);
    bytes
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend("2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend(payload);
    bytes
}

fn tcp_segment(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        0xc0, 0, 0x01, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0,
    ];
    bytes.extend(payload);
    bytes
}

#[test]
fn an_outgoing_syn_is_a_flow_from_this_host() {
    let bytes = v4(6, 0x4000, &tcp_segment(2, &[]));
    let packet = Packet::parse(&bytes).unwrap();
    assert!(packet.tcp().unwrap().opens() && !packet.may_be_reply());
    let flow = packet.flow(Hook::Output, Direction::Outgoing);
    assert_eq!(flow.to_string(), "tcp 10.0.0.1:49152 → 192.0.2.7:443");
}

#[test]
fn both_ways_of_a_connection_have_one_key() {
    let there = v6(17, &[0x10, 0x00, 0, 53, 0, 8, 0, 0]);
    let there = Packet::parse(&there)
        .unwrap()
        .flow(Hook::Output, Direction::Outgoing);
    let mut back = v6(17, &[0, 53, 0x10, 0x00, 0, 8, 0, 0]);
    let (source, destination): (Vec<u8>, Vec<u8>) = (back[8..24].to_vec(), back[24..40].to_vec());
    back[8..24].copy_from_slice(&destination);
    back[24..40].copy_from_slice(&source);
    assert_eq!(
        Packet::parse(&back)
            .unwrap()
            .flow(Hook::Input, Direction::Outgoing),
        there
    );
}

#[test]
fn an_echo_reply_belongs_to_the_flow_of_its_request() {
    let reply = v4(1, 0, &[0, 0, 0, 0, 0x12, 0x34, 0, 1]);
    let packet = Packet::parse(&reply).unwrap();
    assert!(packet.may_be_reply());
    let flow = packet.flow(Hook::Output, Direction::Incoming);
    assert_eq!((flow.local.port, flow.icmp_type()), (0x1234, Some(8)));
}

#[test]
fn payload_ends_where_the_header_says() {
    let mut bytes = v4(6, 0, &tcp_segment(0x18, b"GET /"));
    bytes.extend(b"trailing");
    assert_eq!(Packet::parse(&bytes).unwrap().payload, b"GET /");
}

#[test]
fn a_later_fragment_has_no_ports() {
    let v4_fragment = v4(17, 185, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Packet::parse(&v4_fragment).unwrap().transport, Transport::Opaque);
    let v6_fragment = v6(44, &[17, 0, 0x05, 0xa8, 0, 0, 0, 1, 1, 2, 3, 4]);
    let packet = Packet::parse(&v6_fragment).unwrap();
    assert_eq!(
        (packet.protocol, packet.transport),
        (Protocol::UDP, Transport::Opaque)
    );
}

#[test]
fn extension_headers_are_walked() {
    let mut payload = vec![60, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(tcp_segment(2, &[]));
    assert_eq!(Packet::parse(&v6(0, &payload)).unwrap().protocol, Protocol::TCP);
}

#[test]
fn what_is_no_packet_says_why() {
    assert_eq!(Packet::parse(&[]), Err(Malformed::CutOff("ip")));
    assert_eq!(Packet::parse(&[0x55]), Err(Malformed::Version(5)));
    assert_eq!(Packet::parse(&v4(6, 0, &[0; 8])), Err(Malformed::CutOff("tcp")));
    assert_eq!(
        Packet::parse(&v4(17, 0, &[0; 3])),
        Err(Malformed::CutOff("transport"))
    );
    let endless: Vec<u8> = std::iter::repeat_n([0, 0, 0, 0, 0, 0, 0, 0], 9)
        .flatten()
        .collect();
    assert_eq!(Packet::parse(&v6(0, &endless)), Err(Malformed::Extensions));
}

#[test]
fn the_fuzzers_corpus_parses_or_says_why_not() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/packet");
    let mut parsed = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        parsed += usize::from(Packet::parse(&std::fs::read(file.unwrap().path()).unwrap()).is_ok());
    }
    assert!(parsed >= 12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn parsing_is_total(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..3_u8) {
        if let Some(first) = bytes.first_mut() {
            *first = match version { 0 => 0x45, 1 => 0x60, _ => *first };
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            let _ = (packet.flow(Hook::Input, Direction::Incoming).scope(), packet.may_be_reply());
        }
    }
}
