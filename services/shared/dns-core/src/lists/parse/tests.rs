use proptest::prelude::*;

use super::*;

fn read(text: &str) -> (Vec<String>, Report) {
    let mut all = Vec::new();
    let mut note = |name: &Name, covers, says| {
        let below = match covers {
            Covers::Name => "",
            Covers::Zone => "*.",
            Covers::Below => "*.*.",
        };
        let sign = if says == Says::Permit { "+" } else { "-" };
        all.push(format!("{sign}{below}{name}"));
    };
    let mut reader = Reader::new(Covers::Name);
    reader.feed(text.as_bytes(), &mut note);
    let report = reader.finish(&mut note);
    (all, report)
}

#[test]
fn each_form_is_read_as_its_own_tools_read_it() {
    for (line, entries) in [
        ("0.0.0.0 a.test b.test # both", &["-a.test", "-b.test"][..]),
        ("0.0.0.0 a.test#one ## two", &["-a.test"]),
        (
            "127.0.0.1\tlocalhost\n::1 ip6-localhost\nfe80::1%lo0 localhost\n255.255.255.255 broadcasthost",
            &[],
        ),
        ("\u{feff}a.test\r\n  b.test  \r\n", &["-a.test", "-b.test"]),
        (
            "a.test # one\nb.test ; two\nc.test#three",
            &["-a.test", "-b.test", "-c.test"],
        ),
        ("*.a.test\n.b.test\n*.zip", &["-*.a.test", "-*.b.test", "-*.zip"]),
        (
            "||a.test^\n||b.test^$important\n@@||c.a.test^\n||zip^\n||*.d.test^\n|e.test^\n@@|f.test^|",
            &[
                "-*.a.test",
                "-*.b.test",
                "+*.c.a.test",
                "-*.zip",
                "-*.*.d.test",
                "-e.test",
                "+f.test",
            ],
        ),
        (
            "address=/a.test/0.0.0.0\nlocal=/b.test/ # ours\naddress=/c.test/d.test/\nserver=/ok.a.test/#\naddress=/e.test/#",
            &[
                "-*.a.test",
                "-*.b.test",
                "-*.c.test",
                "-*.d.test",
                "+*.ok.a.test",
                "-*.e.test",
            ],
        ),
        (
            concat!(
                "$ORIGIN rpz.test.\n$TTL 60\n@ SOA a. b. (\n  1 ; serial\n  2 3 4\n  5 )\n\tIN NS localhost.\n",
                "a.example CNAME . ; no such name\n*.a.example 1h30m IN CNAME *.\nb.example.rpz.test. CNAME rpz-passthru.\n",
                "c.example IN 60 CNAME c.example.\n$ORIGIN d.example.rpz.test.\nwww CNAME rpz-drop.\n",
            ),
            &[
                "-a.example",
                "-*.*.a.example",
                "+b.example",
                "+c.example",
                "-www.d.example",
            ],
        ),
        (
            "a.example CNAME .\n  IN CNAME rpz-passthru.",
            &["-a.example", "+a.example"],
        ),
        (
            "bücher.test\n||BÜCHER.test^",
            &["-xn--bcher-kva.test", "-*.xn--bcher-kva.test"],
        ),
    ] {
        let (found, report) = read(line);
        assert_eq!(found, entries, "{line}");
        assert_eq!((report.garbage, report.unsupported), (0, 0), "{line}");
    }
}

#[test]
fn what_a_name_server_cannot_do_is_passed_over_and_counted() {
    for line in [
        "||a.test/path^",
        "||a.test^$script",
        "||a.test^$third-party",
        "||a.test^$dnsrewrite=192.0.2.1",
        "||a*.test^",
        "a.test^",
        "http://a.test/",
        "a.test,b.test#@#.banner",
        "address=/#/0.0.0.0",
        "address=/a.test/192.0.2.1",
        "server=192.0.2.1",
        "cache-size=1000",
        "* CNAME .",
        "a.test CNAME rpz-tcp-only.",
        "a.test A 192.0.2.1",
        "a.test##.banner",
        "@@/ads/",
        "192.0.2.1 a.test",
        "a.test CNAME walled.garden.",
        "32.1.2.0.192.rpz-ip CNAME .",
        "server=/a.test/192.0.2.1",
    ] {
        let (found, report) = read(line);
        assert_eq!(
            (found.len(), report.unsupported, report.garbage),
            (0, 1, 0),
            "{line}"
        );
    }
}

#[test]
fn garbage_is_counted_and_named() {
    let long = "a".repeat(LONGEST + 1);
    let (found, report) = read(&format!(
        "# list\na.test\n<html>\ncom\n{long}\nb.test\n0.0.0.0 c.test d..test"
    ));
    assert_eq!(found, ["-a.test", "-b.test", "-c.test"]);
    assert_eq!((report.garbage, report.comments), (4, 1));
    let lines: Vec<_> = report.first.iter().map(|garbage| garbage.line).collect();
    assert_eq!(lines, [3, 4, 5, 7]);
}

/// What was found once stays found: every file of the fuzzer's corpus.
#[test]
fn the_corpus_is_read_in_any_pieces() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/lists");
    let mut files = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let read = |piece: usize| {
            let (mut reader, mut names) = (Reader::new(Covers::Name), Vec::new());
            let mut note = |name: &Name, covers, says| names.push((name.clone(), covers, says));
            for piece in bytes.chunks(piece) {
                reader.feed(piece, &mut note);
            }
            let report = reader.finish(&mut note);
            (names, report)
        };
        assert_eq!(read(1 << 16), read(1));
        files += 1;
    }
    assert!(files >= 7);
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_pieces_make_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        let all = |pieces: &[&[u8]]| {
            let mut names = Vec::new();
            let mut reader = Reader::new(Covers::Zone);
            for piece in pieces {
                reader.feed(piece, |name, covers, says| names.push((name.clone(), covers, says)));
            }
            let report = reader.finish(|_, _, _| ());
            (names, report.garbage + report.unsupported)
        };
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        let with_end = [&bytes[..], b"\n"].concat();
        let whole = all(&[&with_end]);
        prop_assert_eq!(whole, all(&[one, two, b"\n"]));
    }
}
