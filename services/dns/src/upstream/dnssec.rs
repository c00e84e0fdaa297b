//! DNSSEC: whether an answer is what its zone's owner signed. hickory validates; this asks for it over the pool, and says
//! why where something is bogus.
//!
//! Invariants: an answer passes as secure only if every record of it was proved; what could be neither proved nor shown to
//! be unsigned is refused, never handed on as merely insecure.

use std::{
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use futures_util::{Stream, StreamExt, stream};
use hickory_net::{
    DnsError, NetError, dnssec::DnssecDnsHandle, runtime::TokioRuntimeProvider, xfer::DnsHandle,
};
use hickory_proto::{
    dnssec::{Proof, TrustAnchors},
    op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query as HickoryQuery},
    rr::{DNSClass, Name as HickoryName, Record, RecordType},
    serialize::binary::BinEncodable,
};
use tokio::time::timeout;

use super::{Answer, Error, Query, message, pool::Inner};
use dns_core::{Name, Question};
use witness::Witness;

mod wildcard;
mod witness;

/// Several questions may have to be asked for one answer; so many deadlines of one question are allowed for all of them.
const DEADLINES: u32 = 2;
/// Extended errors (RFC 8914 §4).
const EDE_INDETERMINATE: u16 = 5;
const EDE_NSEC_MISSING: u16 = 12;

tokio::task_local! {
    /// What was seen while one answer is validated: hickory says only that a record is bogus, and not why.
    static WITNESS: Arc<Mutex<Witness>>;
}

/// See the module.
pub(crate) struct Validator {
    handle: DnssecDnsHandle<Asker>,
    pool: Arc<Inner>,
}

impl Validator {
    /// Trusts the keys in the file, or the root's.
    pub(crate) fn new(pool: &Arc<Inner>, anchors: Option<&Path>) -> anyhow::Result<Self> {
        let anchors = match anchors {
            None => TrustAnchors::default(),
            Some(path) => TrustAnchors::from_file(path).with_context(|| {
                format!(
                    "read trust anchors from {}: it holds DNSKEY records as a zone file does",
                    path.display()
                )
            })?,
        };
        let asker = Asker {
            pool: Arc::clone(pool),
        };
        Ok(Self {
            handle: DnssecDnsHandle::with_trust_anchor(asker, Arc::new(anchors)),
            pool: Arc::clone(pool),
        })
    }

    /// Asks, and validates what is answered.
    pub(crate) async fn exchange(&self, query: &Query) -> Result<Answer, Error> {
        let kind = RecordType::from(query.question.kind);
        // Signatures are not signed, and other classes have no root.
        if query.question.class != 1 || matches!(kind, RecordType::RRSIG | RecordType::ANY) {
            return self.pool.exchange(query).await;
        }
        let began = Instant::now();
        let witness = Arc::new(Mutex::new(Witness::new(query.question.clone())));
        let asked = WITNESS.scope(Arc::clone(&witness), self.ask(query, kind));
        let got = timeout(self.pool.deadline() * DEADLINES, Box::pin(asked)).await;
        let witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(got) = got else {
            let upstream = witness.upstream();
            return Err(Error::Timeout { upstream });
        };
        conclude(query, got, &witness, began.elapsed())
    }

    async fn ask(&self, query: &Query, kind: RecordType) -> Result<DnsResponse, NetError> {
        let name = HickoryName::from_labels(query.question.name.labels())?;
        let mut question = HickoryQuery::query(name, kind);
        question.set_query_class(DNSClass::IN);
        let mut options = DnsRequestOptions::default();
        options.edns_set_dnssec_ok = true;
        let mut answers = self.handle.send(DnsRequest::from_query(question, options));
        answers.next().await.unwrap_or(Err(NetError::NoConnections))
    }
}

/// Turns what hickory found into an answer or an error.
fn conclude(
    query: &Query,
    got: Result<DnsResponse, NetError>,
    witness: &Witness,
    took: Duration,
) -> Result<Answer, Error> {
    if let Some(error) = witness.own_error() {
        return Err(error);
    }
    let (response, proof) = match got {
        Ok(response) => {
            let proof = proof_of(&response);
            (response, proof)
        }
        Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => {
            // A denial with more NSEC3 iterations than anyone should compute counts as unsigned (RFC 9276 §3.2).
            let found = match proof {
                Proof::Insecure => Ok(false),
                _ if wildcard::is_proved(&response) => Ok(true),
                other => Err(other),
            };
            (*response, found)
        }
        Err(other) => return Err(witness.lost().unwrap_or_else(|| bogus(6, other.to_string()))),
    };
    match proof {
        Ok(secure) => finish(query, response, secure, witness, took),
        // Without all the keys nothing is known; that is an outage and no forgery.
        Err(_) if witness.lost().is_some() => Err(witness.lost().unwrap_or(Error::AllDown)),
        Err(Proof::Indeterminate) => Err(bogus(
            EDE_INDETERMINATE,
            "no chain of trust leads to the answer, and none away from it".to_owned(),
        )),
        Err(_) => {
            let unsigned_denial = response.answers.is_empty();
            let (ede, reason) = witness.reason(unsigned_denial.then_some(EDE_NSEC_MISSING), unix_now());
            Err(bogus(ede, reason))
        }
    }
}

/// `Ok(true)`: all of it proved; `Ok(false)`: proved to be unsigned; else what is wrong.
fn proof_of(response: &Message) -> Result<bool, Proof> {
    let counts = |record: &&Record| !matches!(record.record_type(), RecordType::RRSIG | RecordType::OPT);
    let decisive = if response.answers.is_empty() {
        &response.authorities
    } else {
        &response.answers
    };
    let mut secure = false;
    for record in decisive.iter().filter(counts) {
        match record.proof {
            Proof::Secure => {}
            Proof::Insecure => return insecure(decisive.iter().filter(counts)),
            other => return Err(other),
        }
        secure = true;
    }
    // An answer without any record, which hickory let pass: the zone was shown to be unsigned.
    Ok(secure)
}

/// One unsigned link makes the whole chain insecure; a broken one breaks it all the same.
fn insecure<'a>(mut records: impl Iterator<Item = &'a Record>) -> Result<bool, Proof> {
    let broken = records.find(|record| !matches!(record.proof, Proof::Secure | Proof::Insecure));
    broken.map_or(Ok(false), |record| Err(record.proof))
}

fn finish(
    query: &Query,
    response: DnsResponse,
    secure: bool,
    witness: &Witness,
    took: Duration,
) -> Result<Answer, Error> {
    let upstream = witness.upstream();
    let mut message = response.into_message().maybe_strip_dnssec_records(query.do_bit);
    message.metadata.id = 0;
    message.metadata.authentic_data = secure;
    message.metadata.checking_disabled = false;
    let bytes = message.to_vec().map_err(|error| Error::Nonsense {
        upstream: Arc::clone(&upstream),
        problem: error.to_string().into(),
    })?;
    let mut bytes = bytes;
    message::settle(&mut bytes, &query.question, true);
    Ok(Answer {
        message: bytes,
        upstream,
        took,
        secure: Some(secure),
        encrypted: witness.encrypted(),
    })
}

fn bogus(ede: u16, reason: String) -> Error {
    Error::Bogus {
        ede,
        reason: reason.into(),
    }
}

fn unix_now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Signature times count modulo 2^32 (RFC 4034 §3.1.5).
    u32::try_from(now.as_secs() & u64::from(u32::MAX)).unwrap_or_default()
}

/// How hickory asks: over the pool, with the signatures, and without the upstream's own validation, whose SERVFAIL would
/// hide what is wrong.
#[derive(Clone)]
struct Asker {
    pool: Arc<Inner>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;

impl DnsHandle for Asker {
    type Response = Answers;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Answers {
        let pool = Arc::clone(&self.pool);
        Box::pin(stream::once(async move { ask(&pool, &request).await }))
    }
}

async fn ask(pool: &Inner, request: &DnsRequest) -> Result<DnsResponse, NetError> {
    let Some(asked) = request.queries.first() else {
        return Err(NetError::Message("no question"));
    };
    let wire = asked.name().to_lowercase().to_bytes()?;
    let (name, _) = Name::read(&wire).map_err(|error| NetError::Msg(error.to_string()))?;
    let query = Query {
        question: Question {
            name,
            kind: asked.query_type().into(),
            class: asked.query_class().into(),
        },
        do_bit: true,
        cd_bit: true,
    };
    let got = Box::pin(pool.exchange(&query)).await;
    let response = got
        .as_ref()
        .map(|answer| DnsResponse::from_buffer(answer.message.clone()));
    // Outside of a validation there is nobody to tell.
    let _ = WITNESS.try_with(|witness| {
        let mut witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
        witness.saw(
            &query.question,
            &got,
            response.as_ref().ok().and_then(|read| read.as_deref().ok()),
        );
    });
    match response {
        Ok(read) => Ok(read?),
        Err(error) => Err(NetError::Msg(error.to_string())),
    }
}
