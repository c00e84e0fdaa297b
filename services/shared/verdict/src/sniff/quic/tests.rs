use proptest::prelude::*;

use super::{super::tests::hello, header::Version, keys::Keys, *};

const NAME: &str = "www.example.org";

fn found() -> Sniffed {
    Sniffed::Name(NAME.into())
}

fn varint(number: usize) -> [u8; 2] {
    (u16::try_from(number).unwrap() | 0x4000).to_be_bytes()
}

fn crypto(hello: &[u8], from: usize, to: usize) -> Vec<u8> {
    let mut frame = vec![6];
    frame.extend(varint(from));
    frame.extend(varint(to - from));
    frame.extend(&hello[from..to]);
    frame
}

/// A long header with everything before the packet number; `behind` is what follows it.
fn header(version: Version, kind: u8, destination: &[u8], behind: usize) -> Vec<u8> {
    let (number, turn) = match version {
        Version::One => (1_u32, 0),
        Version::Two => (0x6b33_43cf, 1),
    };
    let mut header = vec![0xc3 | (((kind + turn) % 4) << 4)];
    header.extend(number.to_be_bytes());
    header.push(u8::try_from(destination.len()).unwrap());
    header.extend(destination);
    header.extend([3, 1, 2, 3]);
    if kind == 0 {
        header.push(0); // no token
    }
    header.extend(varint(behind));
    header
}

fn initial(version: Version, destination: &[u8], number: u32, frames: &[u8]) -> Vec<u8> {
    let header = header(version, 0, destination, 4 + frames.len() + 16);
    let keys = Keys::of_opener(version, destination).unwrap();
    keys.seal(&header, number, frames)
}

fn early() -> Vec<u8> {
    let mut packet = header(Version::One, 1, b"12345678", 100);
    packet.extend([0x55; 100]);
    packet
}

/// Datagrams as they are sent: padded with frames.
fn datagram(version: Version, number: u32, frames: &[u8]) -> Vec<u8> {
    let mut padded = frames.to_vec();
    padded.resize(1200, 0);
    initial(version, b"12345678", number, &padded)
}

fn read(datagrams: &[Vec<u8>]) -> Sniffed {
    name(datagrams.iter().map(Vec::as_slice))
}

fn corpus(file: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/quic");
    std::fs::read(format!("{folder}/{file}")).unwrap()
}

/// A file of the corpus: how to take it, then datagrams with their lengths before them, as in `fuzz_targets/quic.rs`.
fn pieces(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = file.get(1..).unwrap_or_default();
    let mut pieces = Vec::new();
    while let [l0, l1, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1])).min(behind.len());
        let (piece, next) = behind.split_at(length);
        pieces.push(piece);
        rest = next;
    }
    pieces
}

/// RFC 9001 §A.2, RFC 9369 §A.2.
#[test]
fn the_packets_of_the_standards_say_their_name() {
    for file in ["rfc9001", "rfc9369"] {
        let file = corpus(file);
        let datagrams = pieces(&file);
        assert!(is_beginning(datagrams[0]));
        assert_eq!(name(datagrams), Sniffed::Name("example.com".into()));
    }
}

#[test]
fn a_hello_in_two_datagrams_is_read_in_any_order_and_not_before_it_is_whole() {
    let hello = hello(NAME);
    for version in [Version::One, Version::Two] {
        let frames = [
            crypto(&hello, 50, hello.len()),
            vec![1, 0, 0],
            crypto(&hello, 0, 10),
        ];
        let first = datagram(version, 0, &frames.concat());
        let second = datagram(version, 1, &crypto(&hello, 10, 50));
        for one in [&first, &second] {
            assert!(is_beginning(one));
            assert_eq!(read(std::slice::from_ref(one)), Sniffed::NeedMore);
        }
        assert_eq!(read(&[first.clone(), second.clone()]), found());
        assert_eq!(read(&[second.clone(), first.clone()]), found());
        assert_eq!(read(&[[first, second].concat()]), found(), "a segmented send");
    }
}

#[test]
fn packets_of_one_datagram_are_read_with_padding_and_early_data_between_them() {
    let hello = hello(NAME);
    let half = |number, from, to| initial(Version::One, b"12345678", number, &crypto(&hello, from, to));
    let (first, second) = (half(0, 0, 30), half(1, 30, hello.len()));
    let mut whole = [early(), first, vec![0; 9], early(), second].concat();
    whole.resize(1200, 0);
    assert!(is_beginning(&whole));
    assert_eq!(read(&[whole]), found());
}

#[test]
fn early_data_alone_announces_a_hello() {
    assert!(is_beginning(&early()));
    assert_eq!(read(&[early()]), Sniffed::NeedMore);
}

#[test]
fn an_acknowledgement_before_the_hello_is_passed_over() {
    let mut frames = vec![3, 5, 0, 1, 0, 0, 0, 1, 1, 1];
    frames.extend(crypto(&hello(NAME), 0, hello(NAME).len()));
    assert_eq!(read(&[datagram(Version::One, 0, &frames)]), found());
}

#[test]
fn what_no_server_would_take_says_nothing() {
    let hello = hello(NAME);
    let good = datagram(Version::One, 0, &crypto(&hello, 0, hello.len()));
    assert_eq!(read(std::slice::from_ref(&good)), found());
    let mut broken = good.clone();
    broken[600] ^= 1;
    assert_eq!(read(&[broken]), Sniffed::None, "the seal is broken");
    let mut other = good.clone();
    other[4] = 2;
    assert_eq!(
        read(std::slice::from_ref(&other)),
        Sniffed::None,
        "version 2 is not 2"
    );
    assert!(!is_beginning(&other));
    assert_eq!(read(&[good[..900].to_vec()]), Sniffed::None, "cut");
    let short = initial(Version::One, b"12345678", 0, &crypto(&hello, 0, hello.len()));
    assert!(!is_beginning(&short), "datagrams are padded");
    let mut stream = vec![8, 0];
    stream.extend(crypto(&hello, 0, hello.len()));
    assert_eq!(
        read(&[datagram(Version::One, 0, &stream)]),
        Sniffed::NeedMore,
        "frames that have no place there"
    );
    let finished = datagram(Version::One, 0, &crypto(&[20; 40], 0, 40));
    assert_eq!(read(&[finished]), Sniffed::None, "no hello");
}

#[test]
fn of_two_connections_with_the_same_ends_the_one_that_says_a_name_counts() {
    let hello = hello(NAME);
    let mut half = crypto(&hello, 0, 20);
    half.resize(1200, 0);
    let half = initial(Version::One, b"another", 0, &half);
    let whole = datagram(Version::One, 0, &crypto(&hello, 0, hello.len()));
    assert_eq!(read(&[half.clone(), whole]), found());
    let rest = datagram(Version::One, 0, &crypto(&hello, 20, hello.len()));
    assert_eq!(
        read(&[half, rest]),
        Sniffed::NeedMore,
        "halves of two are not one"
    );
}

#[test]
fn only_so_many_packets_are_opened() {
    let hello = hello(NAME);
    let ping = datagram(Version::One, 0, &[1]);
    let whole = datagram(Version::One, 1, &crypto(&hello, 0, hello.len()));
    let mut many = vec![ping; MOST_PACKETS];
    many.push(whole);
    assert_eq!(read(&many), Sniffed::NeedMore);
    assert_eq!(read(&many[1..]), found());
}

#[test]
fn other_datagrams_begin_no_connection() {
    let dns = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www";
    let retry = [&[0xf0, 0, 0, 0, 1, 8][..], &[7; 1300]].concat();
    let handshake = [header(Version::One, 2, b"12345678", 1200), vec![7; 1200]].concat();
    for other in [&dns[..], &[], &[0xc0], &[0x40; 1300], &retry, &handshake] {
        assert!(!is_beginning(other));
        assert_eq!(name([other]), Sniffed::None);
    }
}

#[test]
fn the_fuzzers_corpus_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/quic");
    for file in std::fs::read_dir(folder).unwrap() {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        let _ = (name(pieces(&file)), name_in_frames(pieces(&file)));
    }
}

proptest! {
    #[test]
    fn a_hello_is_read_however_it_is_cut_shuffled_and_repeated(
        cuts in proptest::collection::btree_set(1..70_usize, 0..12),
        packets in 1..4_usize,
        order in any::<u64>(),
    ) {
        let hello = hello(NAME);
        let mut edges = vec![0];
        edges.extend(cuts.into_iter().filter(|cut| *cut < hello.len()));
        edges.push(hello.len());
        let mut frames: Vec<_> = edges.windows(2).map(|edge| crypto(&hello, edge[0], edge[1])).collect();
        frames.push(crypto(&hello, 0, 5)); // once more
        let mut random = order | 1;
        for at in (1..frames.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            frames.swap(at, (random >> 33) as usize % (at + 1));
        }
        let share = frames.len().div_ceil(packets);
        let datagrams: Vec<_> = (0..).zip(frames.chunks(share))
            .map(|(number, frames)| datagram(Version::Two, number, &frames.concat()))
            .collect();
        prop_assert_eq!(read(&datagrams), found());
    }

    #[test]
    fn reading_is_total(datagrams: Vec<Vec<u8>>, first in prop_oneof![Just(0xc0_u8), any::<u8>()], version in prop_oneof![Just(1_u32), Just(0x6b33_43cf), any::<u32>()]) {
        let datagrams: Vec<_> = datagrams.into_iter()
            .map(|rest| [&[first][..], &version.to_be_bytes(), &rest].concat())
            .collect();
        let _ = (read(&datagrams), datagrams.iter().any(|datagram| is_beginning(datagram)));
        let _ = name_in_frames(datagrams.iter().map(Vec::as_slice));
    }

    #[test]
    fn frames_are_read_whatever_they_are(frames: Vec<u8>) {
        let hello = hello(NAME);
        let _ = read(&[datagram(Version::One, 0, &frames)]);
        let behind = [crypto(&hello, 0, hello.len()), frames].concat();
        prop_assert_eq!(name_in_frames([&behind[..]]), found());
    }

    #[test]
    fn a_damaged_header_is_no_trouble(at in 0..40_usize, value: u8) {
        let hello = hello(NAME);
        let mut whole = datagram(Version::One, 0, &crypto(&hello, 0, hello.len()));
        whole[at] = value;
        let _ = read(&[whole]);
    }
}
