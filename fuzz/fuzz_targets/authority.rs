//! Any text is a target or not, and a target is written as it was read.
#![no_main]

use gate17_proto::target::{Target, UDP_PREFIX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let of_path = Target::from_udp_path(&format!("{UDP_PREFIX}{text}"));
    for target in [text.parse::<Target>(), of_path].into_iter().flatten() {
        assert_eq!(target.to_string().parse(), Ok(target.clone()));
        assert_eq!(Target::from_udp_path(&target.udp_path()), Ok(target));
    }
});
