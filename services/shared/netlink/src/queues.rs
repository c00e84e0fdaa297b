//! Who reads which packet queue, as the kernel's table tells: `/proc/net/netfilter/nfnetlink_queue` (root only).
//!
//! Source: `seq_show` in `net/netfilter/nfnetlink_queue.c`.

use std::{fs, io};

const TABLE: &str = "/proc/net/netfilter/nfnetlink_queue";

/// A queue that somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Its number.
    pub queue: u16,
    /// Netlink port of the reader: mostly its pid.
    pub port: u32,
    /// Packets that wait for a verdict.
    pub waiting: u64,
    /// Dropped since the queue was full.
    pub dropped_full: u64,
    /// Dropped since the socket's receive buffer was full.
    pub dropped_unread: u64,
}

impl Statistics {
    /// Of one queue; `None` where nobody reads it, or where we may not know.
    pub fn read(queue: u16) -> Option<Self> {
        Self::all().ok()?.into_iter().find(|line| line.queue == queue)
    }

    /// Of all queues that are read.
    ///
    /// # Errors
    /// Where the table is not for us to read, or not there: then the kernel has no queues (yet).
    pub fn all() -> io::Result<Vec<Self>> {
        Ok(Self::parse(&fs::read_to_string(TABLE)?))
    }

    /// Total: lines that are not understood are passed over.
    pub fn parse(table: &str) -> Vec<Self> {
        table.lines().filter_map(Self::line).collect()
    }

    fn line(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next();
        let (queue, port, waiting) = (next()?, next()?, next()?);
        let (_mode, _range) = (next()?, next()?);
        Some(Self {
            queue: u16::try_from(queue).ok()?,
            port: u32::try_from(port).ok()?,
            waiting,
            dropped_full: next()?,
            dropped_unread: next()?,
        })
    }

    /// The reader, for people, as far as its port tells.
    pub fn holder(&self) -> String {
        match fs::read_to_string(format!("/proc/{}/comm", self.port)) {
            Ok(comm) => format!("process {} ({})", self.port, comm.trim()),
            Err(_) => format!("netlink port {}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "17040   4242     3 2  4096     5     6       77  1\nrubbish\n17060 7\n";
        assert_eq!(
            Statistics::parse(table),
            [Statistics {
                queue: 17040,
                port: 4242,
                waiting: 3,
                dropped_full: 5,
                dropped_unread: 6
            }]
        );
    }

    proptest! {
        #[test]
        fn reading_is_total(table: String) {
            let _ = Statistics::parse(&table);
        }
    }
}
