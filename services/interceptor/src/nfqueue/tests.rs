use super::*;
use proptest::prelude::*;

#[test]
fn the_kernels_table_is_read() {
    let table = "17040   4242     3 2  4096     5     6       77  1\n17060   4242     0 2  4096     0     0        0  1\n";
    let found = Statistics::find(table, QueueNumber(17040));
    assert_eq!(
        found,
        Some(Statistics {
            port: 4242,
            waiting: 3,
            dropped_full: 5,
            dropped_unread: 6
        })
    );
    assert_eq!(Statistics::find(table, QueueNumber(17140)), None);
    assert_eq!(Statistics::find("17040 rubbish", QueueNumber(17040)), None);
}

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
