//! What was served, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dns_core::wire::code;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was served since the start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Queries that wait for an upstream now.
            pub outstanding: u64,
            /// TCP connections now.
            pub tcp_open: u64,
        }

        impl Counters {
            /// All of them, as the service's state tells of them.
            pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [
                    $((concat!("queries_", stringify!($name)), self.$name),)*
                    ("queries_outstanding_now", self.outstanding),
                    ("queries_tcp_open_now", self.tcp_open),
                ]
                .into_iter()
            }
        }

        /// The same, written by all threads.
        #[derive(Debug, Default)]
        pub(super) struct Shared {
            $($name: AtomicU64,)*
        }

        impl Shared {
            /// Adds what one thread counted, and begins its count anew.
            pub(super) fn add(&self, tally: &mut Counters) {
                $(if tally.$name > 0 {
                    self.$name.fetch_add(tally.$name, Relaxed);
                })*
                *tally = Counters::default();
            }

            pub(super) fn snapshot(&self) -> Counters {
                Counters {
                    $($name: self.$name.load(Relaxed),)*
                    outstanding: 0,
                    tcp_open: 0,
                }
            }
        }
    };
}

counters! {
    /// Queries over UDP, whatever they were.
    udp_received,
    /// Queries over TCP.
    tcp_received,
    /// Answers with records, or none, without an error.
    noerror,
    /// Answers that there is no such name.
    nxdomain,
    /// Answers that the server failed.
    servfail,
    /// Answers that the server does not want to.
    refused,
    /// Other answers.
    other,
    /// Of all answers: sent to come back over TCP.
    truncated,
    /// Queries that had to wait.
    later,
    /// Queries that the handler left without an answer.
    dropped,
    /// Answered SERVFAIL because too many were waiting, in total or on their account.
    overflowed,
    /// What was no query, answered or not.
    malformed,
    /// Datagrams and connections from elsewhere than this host, left without an answer.
    foreign,
    /// Answers that could not be sent.
    unsent,
    /// TCP connections accepted.
    tcp_accepted,
    /// TCP connections that did nothing, closed to make place for another.
    tcp_displaced,
    /// TCP connections closed at once because there were too many, in total or on their account.
    tcp_refused,
    /// TCP connections closed because their clients did not send, or did not read.
    tcp_timed_out,
}

impl Counters {
    /// Counts an answer.
    pub(super) fn answered(&mut self, message: &[u8]) {
        let Some([high, low]) = message.get(2..4).and_then(|flags| flags.first_chunk::<2>()) else {
            return;
        };
        self.truncated += u64::from(high & 0x02 != 0);
        *match u16::from(low & 0x0f) {
            code::NOERROR => &mut self.noerror,
            code::NXDOMAIN => &mut self.nxdomain,
            code::SERVFAIL => &mut self.servfail,
            code::REFUSED => &mut self.refused,
            _ => &mut self.other,
        } += 1;
    }
}
