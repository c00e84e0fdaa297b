//! What a server in the clear has shown of its manners: whether it repeats the letters of a question, gives cookies, knows
//! EDNS. Pure: time and randomness are arguments.
//!
//! All of it makes forged answers harder (0x20: draft-vixie-dnsext-dns0x20; cookies: RFC 7873); what a server does not
//! keep up is given up for that server only after its own word over TCP, where nobody forges blindly.

use std::time::Duration;

/// So many answers in a row in other letters than the question make us stop expecting them right.
const SLIPS: u32 = 3;
/// What was given up is tried again after this.
const AGAIN: Duration = Duration::from_secs(3600);
/// The server's part of a cookie (RFC 7873 §4).
const SERVER_COOKIE: std::ops::RangeInclusive<usize> = 8..=32;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    case: Feature,
    edns: Feature,
    cookies: bool,
    client_cookie: [u8; 8],
    server_cookie: Vec<u8>,
    cookieless: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Feature {
    wanted: bool,
    slips: u32,
    given_up: Option<Duration>,
}

impl Feature {
    fn is_on(&self, now: Duration) -> bool {
        self.wanted && self.given_up.is_none_or(|since| now >= since + AGAIN)
    }

    /// Returns true when it was given up just now.
    fn slipped(&mut self, limit: u32, now: Duration) -> bool {
        self.slips += 1;
        let given_up = self.slips >= limit && self.is_on(now);
        if given_up {
            (self.given_up, self.slips) = (Some(now), 0);
        }
        given_up
    }

    fn kept(&mut self) {
        (self.slips, self.given_up) = (0, None);
    }
}

/// What an answer's cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CookieVerdict {
    /// As it should be, or nothing is known of the server's cookies.
    Fine,
    /// The server gives cookies, and this answer has none: perhaps forged.
    Missing,
    /// Not the cookie that was sent: forged.
    Wrong,
}

impl Manners {
    /// Nothing is known yet. `client_cookie` is random, and kept for as long as the server is known.
    pub(crate) fn new(case: bool, cookies: bool, client_cookie: [u8; 8]) -> Self {
        let feature = |wanted| Feature {
            wanted,
            ..Feature::default()
        };
        Self {
            case: feature(case),
            edns: feature(true),
            cookies,
            client_cookie,
            server_cookie: Vec::new(),
            cookieless: 0,
        }
    }

    /// Whether to write the question's letters at random.
    pub(crate) fn randomises_case(&self, now: Duration) -> bool {
        self.case.is_on(now)
    }

    /// Whether to send EDNS.
    pub(crate) fn uses_edns(&self, now: Duration) -> bool {
        self.edns.is_on(now)
    }

    /// The COOKIE option to send.
    pub(crate) fn cookie(&self, now: Duration) -> Option<Vec<u8>> {
        let sends = self.cookies && self.uses_edns(now);
        sends.then(|| [&self.client_cookie[..], &self.server_cookie].concat())
    }

    /// The letters of an answer: as sent, or not. True when the server is now known not to repeat them.
    pub(crate) fn case_seen(&mut self, right: bool, now: Duration) -> bool {
        if right {
            self.case.kept();
            return false;
        }
        self.case.slipped(SLIPS, now)
    }

    /// The server does not understand EDNS, as it said over TCP or said twice.
    pub(crate) fn edns_refused(&mut self, now: Duration) -> bool {
        self.edns.slipped(1, now)
    }

    /// Judges the COOKIE option of an answer over UDP, and learns the server's part of it.
    pub(crate) fn cookie_seen(&mut self, option: Option<(&[u8], &[u8])>) -> CookieVerdict {
        if !self.cookies {
            return CookieVerdict::Fine;
        }
        match option {
            Some((client, _)) if client != self.client_cookie => CookieVerdict::Wrong,
            Some((_, server)) => {
                if SERVER_COOKIE.contains(&server.len()) {
                    self.server_cookie = server.to_vec();
                    self.cookieless = 0;
                }
                CookieVerdict::Fine
            }
            None if self.server_cookie.is_empty() => CookieVerdict::Fine,
            None => {
                self.cookieless += 1;
                if self.cookieless >= SLIPS {
                    self.server_cookie.clear();
                }
                CookieVerdict::Missing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn manners() -> Manners {
        Manners::new(true, true, *b"clientck")
    }

    #[test]
    fn a_cookie_goes_with_the_servers_part_once_it_is_known() {
        let mut manners = manners();
        assert_eq!(manners.cookie(NOW).as_deref(), Some(&b"clientck"[..]));
        assert_eq!(
            manners.cookie_seen(Some((b"clientck", b"servercookie"))),
            CookieVerdict::Fine
        );
        assert_eq!(manners.cookie(NOW).as_deref(), Some(&b"clientckservercookie"[..]));
        assert_eq!(
            manners.cookie_seen(Some((b"clientcX", b"servercookie"))),
            CookieVerdict::Wrong
        );
    }

    #[test]
    fn a_server_that_gave_cookies_is_held_to_it_until_it_stops_for_good() {
        let mut manners = manners();
        assert_eq!(
            manners.cookie_seen(None),
            CookieVerdict::Fine,
            "it never gave one"
        );
        manners.cookie_seen(Some((b"clientck", b"servercookie")));
        for _ in 0..SLIPS {
            assert_eq!(manners.cookie_seen(None), CookieVerdict::Missing);
        }
        assert_eq!(manners.cookie_seen(None), CookieVerdict::Fine);
    }

    #[test]
    fn letters_are_given_up_after_three_slips_in_a_row_and_tried_again_in_an_hour() {
        let mut manners = manners();
        assert!(!manners.case_seen(false, NOW) && !manners.case_seen(false, NOW));
        manners.case_seen(true, NOW);
        assert!(!manners.case_seen(false, NOW) && !manners.case_seen(false, NOW));
        assert!(manners.randomises_case(NOW));
        assert!(manners.case_seen(false, NOW), "told once");
        assert!(!manners.randomises_case(NOW));
        assert!(manners.randomises_case(NOW + AGAIN));
    }

    #[test]
    fn without_edns_there_is_no_cookie() {
        let mut manners = manners();
        assert!(manners.edns_refused(NOW));
        assert!(!manners.uses_edns(NOW) && manners.cookie(NOW).is_none());
    }
}
