//! What every query goes through, however it came: a place to wait, its cookie, and answers that are the same for everybody.

use std::net::{IpAddr, SocketAddr};

use dns_core::wire::{Query, Reply, Unfit, code, minimal_any, refuse};

use super::{Account, Client, Front, Handler, Place, Transport, clock};

/// Extended DNS Error "Other" (RFC 8914 §4.1).
const OTHER: u16 = 0;

impl<H: Handler> Front<H> {
    /// A place to wait: one of the user's, and of those one of the group's.
    pub(super) fn enter(&self, account: Account) -> Option<[Place; 2]> {
        let key = (u128::from(account.user) << 64) | u128::from(account.group);
        Some([
            self.groups.enter(key)?,
            self.outstanding.enter(account.user.into())?,
        ])
    }

    /// Reads a datagram, and prepares what its answer depends on.
    pub(super) fn understand(
        &self,
        bytes: &[u8],
        peer: SocketAddr,
        local: IpAddr,
        port: u16,
    ) -> Result<(Query, Client), Unfit> {
        let query = Query::parse(bytes)?;
        let reply = Reply::datagram(&query, self.limits.datagram);
        let mut client = Client {
            peer,
            local: SocketAddr::new(local, port),
            transport: Transport::Udp,
            has_cookie: false,
            reply,
        };
        self.cookie(&query, &mut client);
        Ok((query, client))
    }

    /// Prepares the cookie for a client that sent one.
    pub(super) fn cookie(&self, query: &Query, client: &mut Client) {
        let Some(given) = query.edns().and_then(|edns| edns.cookie) else {
            return;
        };
        // the time in a cookie is the wall clock's, modulo 2³² (RFC 9018 §4.3)
        let (cookie, valid) = self
            .cookies
            .answer(&given, client.peer.ip(), clock::wall().as_secs() as u32);
        client.reply.cookie = Some(cookie);
        client.has_cookie = valid;
    }
}

/// Answers what has the same answer whoever asks. Whether it is such.
pub(super) fn at_once(query: &Query, reply: &Reply, out: &mut Vec<u8>) -> bool {
    if let Some(code) = query.refused_with() {
        refuse(query, code, None, reply, out);
        return true;
    }
    if query.kind() == dns_core::wire::kind::ANY {
        minimal_any(query, reply, out);
        return true;
    }
    false
}

/// SERVFAIL at once, rather than silence: the program learns it now and not after seconds, and it costs one datagram on
/// this host.
pub(super) fn overflow(query: &Query, reply: &Reply, out: &mut Vec<u8>) {
    refuse(
        query,
        code::SERVFAIL,
        Some((OTHER, "too many queries wait")),
        reply,
        out,
    );
}
