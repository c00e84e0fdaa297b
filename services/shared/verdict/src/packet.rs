//! Packets as NFQUEUE delivers them: bytes in, addresses, ports and payload out. Total: any bytes give a packet or the
//! reason why not.
//!
//! Sources: RFC 791 (IPv4), 8200 (IPv6), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP). Conntrack has put fragments together
//! before they are queued; a fragment that comes all the same has no ports.

use std::net::IpAddr;

use crate::{Direction, Endpoint, Flow, Protocol};

mod ip;

/// Which way a packet goes through this host: which chain queued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `OUTPUT`: this host sends it.
    Output,
    /// `INPUT`: this host receives it.
    Input,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version 4 nor 6.
    #[error("ip version {0} is unknown")]
    Version(u8),
    /// A header is longer than what there is.
    #[error("{0} header is cut off")]
    CutOff(&'static str),
    /// A header gives itself a length that it cannot have.
    #[error("{0} header length is impossible")]
    Length(&'static str),
    /// More extension headers than any sane sender uses.
    #[error("too many ipv6 extension headers")]
    Extensions,
    /// `::ffff:a.b.c.d` has no place on the wire (RFC 4942 §2.2): inside this host it would pose as IPv4.
    #[error("an address is v4-mapped")]
    Mapped,
}

/// TCP's flags and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Of the first octet; of a SYN: the initial sequence number, by which a retransmission is known.
    pub sequence: u32,
    /// The flag octet (FIN 1, SYN 2, RST 4, PSH 8, ACK 16).
    pub flags: u8,
}

impl Tcp {
    /// Opens a connection: SYN without ACK.
    pub const fn opens(self) -> bool {
        self.flags & 0x12 == 0x02
    }
}

/// What the protocol's own header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A protocol with ports.
    Ports {
        /// Sender's.
        source: u16,
        /// Receiver's.
        destination: u16,
        /// For TCP.
        tcp: Option<Tcp>,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Of queries and their replies.
        identifier: u16,
    },
    /// Other protocols, and fragments without a transport header.
    Opaque,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Upper protocol, behind IPv6 extension headers.
    pub protocol: Protocol,
    /// Its header.
    pub transport: Transport,
    /// Behind the transport header, as far as it was copied; empty for [`Transport::Opaque`].
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads an IP packet. It may be cut off behind its transport header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let ip = ip::Header::parse(bytes)?;
        let (transport, payload) = if ip.first_fragment {
            transport(ip.protocol, ip.payload, ip.fragmented)?
        } else {
            (Transport::Opaque, &[][..])
        };
        Ok(Self {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.protocol,
            transport,
            payload,
        })
    }

    /// TCP's flags, for TCP.
    pub const fn tcp(&self) -> Option<Tcp> {
        match self.transport {
            Transport::Ports { tcp, .. } => tcp,
            Transport::Icmp { .. } | Transport::Opaque => None,
        }
    }

    /// It answers something, so this host's end may well be the one that opened the connection.
    pub fn may_be_reply(&self) -> bool {
        match self.transport {
            Transport::Ports { tcp: Some(tcp), .. } => !tcp.opens(),
            Transport::Icmp { kind, .. } => query_of_reply(self.protocol, kind).is_some(),
            Transport::Ports { .. } | Transport::Opaque => true,
        }
    }

    /// The flow that it belongs to, for a packet that `hook` saw, of a connection opened in `direction`.
    pub fn flow(&self, hook: Hook, direction: Direction) -> Flow {
        let (source_port, destination_port, icmp) = match self.transport {
            Transport::Ports {
                source, destination, ..
            } => (source, destination, None),
            Transport::Icmp {
                kind,
                code,
                identifier,
            } => {
                let kind = query_of_reply(self.protocol, kind).unwrap_or(kind);
                (0, 0, Some((identifier, u16::from_be_bytes([kind, code]))))
            }
            Transport::Opaque => (0, 0, None),
        };
        let ((local, local_port), (remote, remote_port)) = match hook {
            Hook::Output => ((self.source, source_port), (self.destination, destination_port)),
            Hook::Input => ((self.destination, destination_port), (self.source, source_port)),
        };
        let (local_port, remote_port) = icmp.unwrap_or((local_port, remote_port));
        Flow {
            direction,
            protocol: self.protocol,
            local: Endpoint::new(local, local_port),
            remote: Endpoint::new(remote, remote_port),
        }
    }
}

fn transport(protocol: Protocol, bytes: &[u8], fragmented: bool) -> Result<(Transport, &[u8]), Malformed> {
    match protocol {
        Protocol::TCP => tcp(bytes),
        Protocol::ICMP | Protocol::ICMPV6 => icmp(protocol, bytes),
        // a first fragment may be too short for anything but its ports
        _ if protocol.has_ports() => {
            let header = match protocol {
                Protocol::UDP | Protocol::UDPLITE => 8,
                _ => 12,
            };
            let (source, destination) = ports(bytes)?;
            if bytes.len() < header && !fragmented {
                return Err(Malformed::CutOff("transport"));
            }
            Ok((
                Transport::Ports {
                    source,
                    destination,
                    tcp: None,
                },
                bytes.get(header..).unwrap_or_default(),
            ))
        }
        _ => Ok((Transport::Opaque, &[])),
    }
}

fn ports(bytes: &[u8]) -> Result<(u16, u16), Malformed> {
    let Some(&[s0, s1, d0, d1]) = bytes.first_chunk() else {
        return Err(Malformed::CutOff("transport"));
    };
    Ok((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

fn tcp(bytes: &[u8]) -> Result<(Transport, &[u8]), Malformed> {
    let (source, destination) = ports(bytes)?;
    let Some(&[_, _, _, _, q0, q1, q2, q3, _, _, _, _, offset, flags]) = bytes.first_chunk() else {
        return Err(Malformed::CutOff("tcp"));
    };
    let header = usize::from(offset >> 4) * 4;
    if header < 20 {
        return Err(Malformed::Length("tcp"));
    }
    let payload = bytes.get(header..).ok_or(Malformed::CutOff("tcp"))?;
    let tcp = Some(Tcp {
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        flags,
    });
    Ok((
        Transport::Ports {
            source,
            destination,
            tcp,
        },
        payload,
    ))
}

fn icmp(protocol: Protocol, bytes: &[u8]) -> Result<(Transport, &[u8]), Malformed> {
    let Some(&[kind, code, ..]) = bytes.first_chunk::<4>() else {
        return Err(Malformed::CutOff("icmp"));
    };
    let identifier = match bytes.get(4..6) {
        Some(&[i0, i1]) if has_identifier(protocol, kind) => u16::from_be_bytes([i0, i1]),
        _ => 0,
    };
    Ok((
        Transport::Icmp {
            kind,
            code,
            identifier,
        },
        bytes.get(8..).unwrap_or_default(),
    ))
}

/// Queries: echo, timestamp, information, address mask; for ICMPv6 echo.
const QUERIES: [(Protocol, u8, u8); 5] = [
    (Protocol::ICMP, 8, 0),
    (Protocol::ICMP, 13, 14),
    (Protocol::ICMP, 15, 16),
    (Protocol::ICMP, 17, 18),
    (Protocol::ICMPV6, 128, 129),
];

fn has_identifier(protocol: Protocol, kind: u8) -> bool {
    QUERIES
        .iter()
        .any(|(of, query, reply)| *of == protocol && (*query == kind || *reply == kind))
}

fn query_of_reply(protocol: Protocol, kind: u8) -> Option<u8> {
    QUERIES
        .iter()
        .find(|(of, _, reply)| *of == protocol && *reply == kind)
        .map(|(_, query, _)| *query)
}

#[cfg(test)]
mod tests;
