//! Any bytes are a packet or a reason why not, and every packet is a flow that conntrack's tuple can name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verdict::{
    Direction,
    packet::{Hook, Packet},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::parse(bytes) else { return };
    for hook in [Hook::Output, Hook::Input] {
        let flow = packet.flow(hook, Direction::Outgoing);
        assert_eq!(flow.protocol, packet.protocol);
        let _ = (flow.scope(), flow.to_string(), packet.may_be_reply());
    }
    assert!(packet.payload.len() < bytes.len());
});
