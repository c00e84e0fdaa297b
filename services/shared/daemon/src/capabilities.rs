//! What this process may do (`capabilities(7)`), so that a missing privilege has a name.

use std::fs;

/// A privilege that some service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Look into files and directories of others.
    DacReadSearch = 2,
    /// Queues, firewall rules, conntrack.
    NetAdmin = 12,
    /// See what other users' processes are.
    SysPtrace = 19,
}

impl Capability {
    /// As systemd and `capsh` write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
        }
    }
}

/// The names of those that this process does not have.
pub fn missing(wanted: &[Capability]) -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective(&status).unwrap_or(0);
    wanted
        .iter()
        .filter(|wanted| effective & (1 << (**wanted as u32)) == 0)
        .map(|wanted| wanted.name())
        .collect()
}

fn effective(status: &str) -> Option<u64> {
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_bits_are_read() {
        assert_eq!(
            effective("Name:\tx\nCapEff:\t0000000000001004\n"),
            Some((1 << 12) | (1 << 2))
        );
        assert_eq!(effective("CapEff:\tnonsense"), None);
    }
}
