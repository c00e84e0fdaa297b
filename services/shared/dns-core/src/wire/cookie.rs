//! Server cookies that any server with the same secret can check (RFC 9018).

use std::net::IpAddr;

use super::edns::ClientCookie;
use crate::siphash::{key, siphash};

const VERSION: u8 = 1;
/// A cookie of this age is renewed (RFC 9018 §4.3).
const RENEW: u32 = 30 * 60;
/// The oldest that is accepted.
const OLDEST: u32 = 60 * 60;
/// How far in the future one may be: clocks of one's other servers.
const AHEAD: u32 = 5 * 60;

/// The content of the COOKIE option of an answer: the client's eight bytes and the server's sixteen.
pub type Cookie = [u8; 24];

/// The secret of the server's cookies.
#[derive(Clone)]
pub struct CookieSecret([u64; 2]);

impl std::fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieSecret")
    }
}

impl CookieSecret {
    /// From sixteen random bytes.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(key(secret))
    }

    /// The cookie for the answer to a query of `address` that came with `cookie`, and whether that was a valid one of ours.
    /// `now` is the number of seconds since 1970, modulo 2³².
    pub fn answer(&self, cookie: &ClientCookie, address: IpAddr, now: u32) -> (Cookie, bool) {
        let given = cookie.server.and_then(|server| {
            let stamp = self.stamp_of(cookie, &server, address)?;
            // serial number arithmetic (RFC 1982): the difference counts, not the numbers
            let age = now.wrapping_sub(stamp);
            (age <= OLDEST || stamp.wrapping_sub(now) <= AHEAD).then_some((server, age))
        });
        let server = match given {
            Some((server, age)) if age < RENEW => server,
            _ => self.make(&cookie.client, address, now),
        };
        let mut whole = [0; 24];
        for (to, from) in whole.iter_mut().zip(cookie.client.iter().chain(&server)) {
            *to = *from;
        }
        (whole, given.is_some())
    }

    /// When a server part was made, if it is one of ours for this client.
    fn stamp_of(&self, cookie: &ClientCookie, server: &[u8; 16], address: IpAddr) -> Option<u32> {
        let [version, _, _, _, s0, s1, s2, s3, ..] = *server;
        let stamp = u32::from_be_bytes([s0, s1, s2, s3]);
        (version == VERSION && self.make(&cookie.client, address, stamp) == *server).then_some(stamp)
    }

    /// Version, three reserved bytes, time stamp, hash.
    fn make(&self, client: &[u8; 8], address: IpAddr, stamp: u32) -> [u8; 16] {
        let mut input = [0; 32];
        let head = [VERSION, 0, 0, 0];
        let stamp = stamp.to_be_bytes();
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            for (to, from) in input.iter_mut().skip(length).zip(bytes) {
                *to = *from;
            }
            length += bytes.len();
        };
        put(client);
        put(&head);
        put(&stamp);
        match address {
            IpAddr::V4(address) => put(&address.octets()),
            IpAddr::V6(address) => put(&address.octets()),
        }
        let hash = siphash::<2, 4>(self.0, input.get(..length).unwrap_or(&input)).to_le_bytes();
        let mut parts = head.into_iter().chain(stamp).chain(hash);
        std::array::from_fn(|_| parts.next().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> CookieSecret {
        CookieSecret::new([
            0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf,
        ])
    }

    /// RFC 9018, appendix A.1 and A.2: a new cookie, and its renewal.
    #[test]
    fn the_vectors_of_the_rfc_come_out() {
        let client = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];
        let address = "198.51.100.100".parse().unwrap();
        let fresh = ClientCookie { client, server: None };
        let (cookie, valid) = secret().answer(&fresh, address, 1_559_731_985);
        assert!(!valid);
        let server = [
            0x01, 0, 0, 0, 0x5c, 0xf7, 0x9f, 0x11, 0x1f, 0x81, 0x30, 0xc3, 0xee, 0xe2, 0x94, 0x80,
        ];
        assert_eq!(cookie[8..], server);
        let again = ClientCookie {
            client,
            server: Some(server),
        };
        let (same, valid) = secret().answer(&again, address, 1_559_731_985 + 60);
        assert!(valid && same == cookie);
        let (renewed, valid) = secret().answer(&again, address, 1_559_731_985 + 40 * 60);
        assert!(valid && renewed != cookie && renewed[..8] == client);
    }

    #[test]
    fn a_cookie_of_another_client_or_time_is_none_of_ours() {
        let client = [1; 8];
        let (cookie, _) = secret().answer(
            &ClientCookie { client, server: None },
            [127, 0, 0, 1].into(),
            1000,
        );
        let mut server = [0; 16];
        server.copy_from_slice(&cookie[8..]);
        let given = ClientCookie {
            client,
            server: Some(server),
        };
        assert!(secret().answer(&given, [127, 0, 0, 1].into(), 1010).1);
        assert!(!secret().answer(&given, [127, 0, 0, 2].into(), 1010).1);
        assert!(
            !secret()
                .answer(&given, [127, 0, 0, 1].into(), 1000 + OLDEST + 1)
                .1
        );
        assert!(
            !CookieSecret::new([7; 16])
                .answer(&given, [127, 0, 0, 1].into(), 1010)
                .1
        );
    }
}
