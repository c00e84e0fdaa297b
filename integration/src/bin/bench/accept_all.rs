//! The bare program: every packet that is queued is accepted for good. Nothing else, so the price is the kernel's own.

use interceptor::nfqueue::{Queue, QueueNumber, QueueOptions};
use netlink::Builder;
use rustix::event::{PollFd, PollFlags, poll};

/// Mark of a connection that is accepted for good.
const ACCEPTED: u32 = 1710;

/// Until it is killed.
pub(super) fn run() {
    let options = QueueOptions::default();
    let queues = QueueNumber::ALL
        .map(|number| Queue::bind(number, &options).unwrap_or_else(|error| panic!("{error}")));
    println!("ready");
    let mut buffer = vec![0; 1 << 17];
    let mut builder = Builder::new();
    loop {
        let mut polled = queues.each_ref().map(|queue| PollFd::new(queue, PollFlags::IN));
        poll(&mut polled, None).expect("poll");
        for (queue, _) in queues
            .iter()
            .zip(&polled)
            .filter(|(_, polled)| !polled.revents().is_empty())
        {
            let mut ids = Vec::new();
            queue
                .read(&mut buffer, |packet| ids.push(packet.id))
                .expect("read a queue");
            for id in ids {
                queue.accept(&mut builder, id, ACCEPTED).expect("send a verdict");
            }
        }
    }
}
