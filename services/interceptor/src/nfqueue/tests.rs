use super::*;
use proptest::prelude::*;

#[test]
fn a_queues_number_tells_its_hook() {
    assert_eq!(
        QueueNumber::ALL.map(QueueNumber::hook),
        [Hook::Output, Hook::Output, Hook::Input, Hook::Input]
    );
}

proptest! {
    #[test]
    fn reading_a_packet_message_is_total(bytes: Vec<u8>) {
        let _ = queued(Attributes::new(&bytes));
    }
}
