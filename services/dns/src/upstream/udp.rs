//! One question over UDP, in the clear.
//!
//! Each attempt has a socket to itself, connected to the server: the kernel chooses its port at random and drops what
//! comes from elsewhere. It serves questions one after the other for a second at most ([`spare`]). An answer has to fit the id, the question, the letters of the question (0x20) and the cookie;
//! one that does not is left unread and counted, and the wait goes on. Where only the letters or the cookie are missing,
//! the server is asked again over TCP, which nobody answers blindly.

mod spare;

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rand::RngExt;
use tokio::time::sleep;

use super::{
    Query, clock,
    manners::{CookieVerdict, Manners},
    message::{self, Make, Match},
    trouble::Trouble,
};
use spare::Spares;

/// So many queries for one question at most.
const ATTEMPTS: u32 = 3;
/// How long the first attempt waits before a second goes beside it, when nothing is known of the server.
const FIRST_WAIT: Duration = Duration::from_millis(700);
/// The least and the most of it once the round trip time is known.
const WAITS: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(1500));
/// So many unfitting answers to one query, and the question goes over TCP: somebody is guessing.
const GUESSES: u32 = 16;
/// Room for an answer; a server that sends more than asked for loses the rest, which then fits no longer.
const ROOM: usize = 4096;

/// Answers that were left unread, by what did not fit. Those from another address never reach us: the socket is connected.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    /// No DNS answer at all.
    pub(crate) garbage: AtomicU64,
    /// Another id.
    pub(crate) id: AtomicU64,
    /// Another question.
    pub(crate) question: AtomicU64,
    /// The question in other letters.
    pub(crate) case: AtomicU64,
    /// Another cookie, or none from a server that gives them.
    pub(crate) cookie: AtomicU64,
}

impl Ignored {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        [&self.garbage, &self.id, &self.question, &self.case, &self.cookie]
            .into_iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

/// What asking over UDP came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer that fits.
    Answer(Vec<u8>),
    /// The question has to go over TCP: the answer was cut, or could be forged.
    AskTcp,
}

/// What is shared by all queries to one server.
#[derive(Debug)]
pub(crate) struct Udp {
    manners: Mutex<Manners>,
    spares: Spares,
    pub(crate) ignored: Ignored,
}

enum Verdict {
    Done(Outcome),
    Again,
    Ignore,
}

impl Udp {
    pub(crate) fn new(case: bool, cookies: bool) -> Self {
        Self {
            manners: Mutex::new(Manners::new(case, cookies, rand::rng().random())),
            spares: Spares::default(),
            ignored: Ignored::default(),
        }
    }

    /// Closes sockets that nobody uses.
    pub(crate) fn close_idle(&self) {
        self.spares.close();
    }

    /// What is known of the server's manners.
    pub(crate) fn manners(&self) -> std::sync::MutexGuard<'_, Manners> {
        self.manners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the first of `addresses`, later the others; the first answer counts.
    pub(crate) async fn exchange(
        &self,
        addresses: &[SocketAddr],
        query: &Query,
        rtt: Option<Duration>,
    ) -> Result<Outcome, Trouble> {
        let mut wait = rtt.map_or(FIRST_WAIT, |rtt| (rtt * 3).clamp(WAITS.0, WAITS.1));
        let mut under_way = FuturesUnordered::new();
        let mut targets = addresses.iter().cycle();
        let mut left = ATTEMPTS.max(
            u32::try_from(addresses.len())
                .unwrap_or(ATTEMPTS)
                .min(2 * ATTEMPTS),
        );
        let mut trouble = Trouble::io("it has no address");
        loop {
            if let Some(target) = targets.next().filter(|_| left > 0) {
                left -= 1;
                under_way.push(self.attempt(*target, query));
            }
            tokio::select! {
                biased;
                ended = under_way.next() => match ended {
                    Some(Ok(outcome)) => return Ok(outcome),
                    Some(Err(problem)) => trouble = problem,
                    None if left == 0 || addresses.is_empty() => return Err(trouble),
                    None => {}
                },
                () = sleep(wait), if left > 0 => wait *= 2,
            }
        }
    }

    async fn attempt(&self, target: SocketAddr, query: &Query) -> Result<Outcome, Trouble> {
        let taken = self.spares.take(target, clock::now()).await?;
        let socket = taken.socket();
        let mut sent = self.query(query);
        socket.send(&sent).await?;
        let (mut guesses, mut again) = (0, true);
        let mut answer = Vec::with_capacity(ROOM);
        loop {
            answer.clear();
            socket.recv_buf(&mut answer).await?;
            match self.judge(&sent, &answer) {
                Verdict::Done(outcome @ Outcome::AskTcp) => return Ok(outcome),
                Verdict::Done(Outcome::Answer(_)) => {
                    // whoever guesses has found its port
                    if guesses == 0 {
                        self.spares.give_back(taken);
                    }
                    return Ok(Outcome::Answer(answer));
                }
                Verdict::Again if again => {
                    again = false;
                    sent = self.query(query);
                    socket.send(&sent).await?;
                }
                Verdict::Again => return Ok(Outcome::AskTcp),
                Verdict::Ignore => guesses += 1,
            }
            if guesses >= GUESSES {
                return Ok(Outcome::AskTcp);
            }
        }
    }

    fn query(&self, query: &Query) -> Vec<u8> {
        let now = clock::now();
        let mut random = rand::rng();
        let mut letters = [0_u8; 32];
        let manners = self.manners();
        if manners.randomises_case(now) {
            random.fill(&mut letters);
        }
        let cookie = manners.cookie(now);
        let make = Make {
            id: random.random(),
            dnssec_ok: query.do_bit,
            checking_disabled: query.cd_bit,
            edns: manners.uses_edns(now),
            cookie: cookie.as_deref(),
            pad: false,
            case: &letters,
        };
        message::query(&query.question, &make)
    }

    /// What to do with a datagram that the server's address sent.
    fn judge(&self, sent: &[u8], answer: &[u8]) -> Verdict {
        let ignore = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
            Verdict::Ignore
        };
        let now = clock::now();
        match message::matches(sent, answer) {
            Match::Garbage => return ignore(&self.ignored.garbage),
            Match::Id => return ignore(&self.ignored.id),
            Match::Question => return ignore(&self.ignored.question),
            Match::Case => {
                self.ignored.case.fetch_add(1, Ordering::Relaxed);
                if self.manners().case_seen(false, now) {
                    tracing::info!(
                        "an upstream does not repeat the letters of questions: they are no longer varied for it"
                    );
                }
                return Verdict::Done(Outcome::AskTcp);
            }
            Match::Answer => {}
        }
        let opt = message::walk::edns(answer);
        let mut manners = self.manners();
        if manners.randomises_case(now) {
            manners.case_seen(true, now);
        }
        match manners.cookie_seen(opt.and_then(|opt| opt.cookie())) {
            CookieVerdict::Fine => {}
            CookieVerdict::Wrong => return ignore(&self.ignored.cookie),
            CookieVerdict::Missing => {
                self.ignored.cookie.fetch_add(1, Ordering::Relaxed);
                return Verdict::Done(Outcome::AskTcp);
            }
        }
        if message::code(answer) == message::BADCOOKIE {
            return Verdict::Again;
        }
        if message::is_truncated(answer) || (message::dislikes_edns(answer) && manners.uses_edns(now)) {
            return Verdict::Done(Outcome::AskTcp);
        }
        Verdict::Done(Outcome::Answer(Vec::new()))
    }
}
