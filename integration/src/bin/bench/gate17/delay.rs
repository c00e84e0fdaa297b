//! Distance: every packet that enters the internet waits. Kernels without netem are common, queues are there.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use integration::Namespace;
use interceptor::nfqueue::{Queue, QueueNumber, QueueOptions};
use netlink::Builder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const NUMBER: QueueNumber = QueueNumber(17);

/// While it lives, there is distance.
pub(super) struct Delay<'a> {
    internet: &'a Namespace,
    over: Arc<AtomicBool>,
    holder: Option<JoinHandle<()>>,
}

impl<'a> Delay<'a> {
    /// Each packet that enters `internet` waits for `time`.
    pub(super) fn begin(internet: &'a Namespace, time: Duration) -> Self {
        let options = QueueOptions {
            copy: 64,
            ..QueueOptions::default()
        };
        let queue =
            internet.enter(|| Queue::bind(NUMBER, &options).unwrap_or_else(|error| panic!("{error}")));
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let holder = thread::spawn(move || hold(&queue, time, &told));
        internet.sh(&rule("-A"));
        Self {
            internet,
            over,
            holder: Some(holder),
        }
    }
}

impl Drop for Delay<'_> {
    fn drop(&mut self) {
        self.internet.sh(&rule("-D"));
        self.over.store(true, Ordering::Relaxed);
        if let Some(holder) = self.holder.take() {
            let _ended = holder.join();
        }
    }
}

fn rule(act: &str) -> String {
    format!(
        "iptables -w -t mangle {act} PREROUTING -i veth+ -j NFQUEUE --queue-num {}",
        NUMBER.0
    )
}

fn hold(queue: &Queue, time: Duration, over: &AtomicBool) {
    let (mut buffer, mut builder) = (vec![0; 1 << 17], Builder::new());
    let mut waiting: VecDeque<(Instant, u32)> = VecDeque::new();
    while !over.load(Ordering::Relaxed) || !waiting.is_empty() {
        let now = Instant::now();
        while let Some((_, id)) = waiting.pop_front_if(|(due, _)| *due <= now) {
            queue.accept(&mut builder, id, 0).expect("send a verdict");
        }
        let wait = waiting.front().map_or(Duration::from_millis(20), |(due, _)| {
            due.saturating_duration_since(now)
        });
        let wait = Timespec::try_from(wait).expect("a short time");
        let mut polled = [PollFd::new(queue, PollFlags::IN)];
        poll(&mut polled, Some(&wait)).expect("poll");
        if !polled[0].revents().is_empty() {
            let due = Instant::now() + time;
            queue
                .read(&mut buffer, |packet| waiting.push_back((due, packet.id)))
                .expect("read a queue");
        }
    }
}
