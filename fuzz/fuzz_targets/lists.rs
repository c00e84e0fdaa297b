//! Any octets are a list, of names that are ones; and where it is cut into pieces makes no difference.
#![no_main]

use dns_core::{
    Name,
    lists::{Builder, Covers, Reader, Report, Says},
};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], piece: usize) -> (Vec<(Name, Covers, Says)>, Report) {
    let (mut reader, mut names) = (Reader::new(Covers::Name), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.feed(piece, |name, covers, says| {
            names.push((name.clone(), covers, says))
        });
    }
    let report = reader.finish(|name, covers, says| names.push((name.clone(), covers, says)));
    (names, report)
}

fuzz_target!(|bytes: &[u8]| {
    let (names, report) = read(bytes, 1 << 16);
    assert_eq!((names.clone(), report.clone()), read(bytes, 3));
    assert_eq!(report.entries, names.len() as u64);
    let mut builder = Builder::new([3; 16]);
    builder.begin("any".into(), Vec::new()).unwrap();
    for (name, covers, says) in &names {
        assert!(!name.is_root() && name.to_string().parse().as_ref() == Ok(name));
        builder.add(name, *covers, *says);
    }
    let lists = builder.finish();
    let permits = names.iter().any(|(_, _, says)| *says == Says::Permit);
    for (name, covers, _) in &names {
        let mut found = 0;
        lists.find(name, |_| found += 1);
        // what refuses a name is found, unless something permits it
        assert!(permits || *covers == Covers::Below || found == 1, "{name}");
    }
});
