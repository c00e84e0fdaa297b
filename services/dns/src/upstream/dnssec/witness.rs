//! What was asked and answered while one answer is validated, and what is wrong with it in words. Pure.

use std::sync::Arc;

use dns_core::Question;
use hickory_proto::{
    dnssec::rdata::DNSSECRData,
    op::Message,
    rr::{RData, Record, RecordType},
};

use crate::upstream::{Answer, Error};

/// See the module.
pub(super) struct Witness {
    question: Question,
    upstream: Option<Arc<str>>,
    encrypted: bool,
    own_error: Option<Error>,
    lost: Option<Error>,
    times: Vec<(u32, u32, String)>,
    unsigned: Option<String>,
    keyless: Option<String>,
}

impl Witness {
    /// For the validation of the answer to `question`.
    pub(super) fn new(question: Question) -> Self {
        Self {
            question,
            upstream: None,
            encrypted: true,
            own_error: None,
            lost: None,
            times: Vec::new(),
            unsigned: None,
            keyless: None,
        }
    }

    /// One question and what came of it; `read` is the answer's message.
    pub(super) fn saw(&mut self, question: &Question, got: &Result<Answer, Error>, read: Option<&Message>) {
        let own = *question == self.question;
        match got {
            Ok(answer) => {
                self.encrypted &= answer.encrypted;
                if own || self.upstream.is_none() {
                    self.upstream = Some(Arc::clone(&answer.upstream));
                }
            }
            Err(error) if own => self.own_error = Some(error.clone()),
            Err(error) => self.lost = Some(error.clone()),
        }
        if let Some(message) = read {
            self.look_at(question, message);
        }
    }

    fn look_at(&mut self, question: &Question, message: &Message) {
        for record in message.answers.iter().chain(&message.authorities) {
            if let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data {
                let input = signature.input();
                let (from, until) = (input.sig_inception.get(), input.sig_expiration.get());
                self.times
                    .push((from, until, format!("{} {}", record.name, input.type_covered)));
            }
        }
        let is_signature = |record: &Record| record.record_type() == RecordType::RRSIG;
        if !message.answers.is_empty() && !message.answers.iter().any(is_signature) {
            self.unsigned = Some(question.name.to_string());
        }
        if question.kind == u16::from(RecordType::DNSKEY) && message.answers.is_empty() {
            self.keyless = Some(question.name.to_string());
        }
    }

    /// Who answered.
    pub(super) fn upstream(&self) -> Arc<str> {
        self.upstream.clone().unwrap_or_else(|| "nobody".into())
    }

    /// Whether nobody on the way could read or change any of it.
    pub(super) fn encrypted(&self) -> bool {
        self.encrypted && self.upstream.is_some()
    }

    /// Why the question itself got no answer.
    pub(super) fn own_error(&self) -> Option<Error> {
        self.own_error.clone()
    }

    /// Why something that is needed for the proof got no answer.
    pub(super) fn lost(&self) -> Option<Error> {
        self.lost.clone()
    }

    /// The extended error (RFC 8914 §4) that says best what is wrong. `otherwise` where nothing better is known.
    pub(super) fn reason(&self, otherwise: Option<u16>, now: u32) -> (u16, String) {
        // Times count modulo 2^32 (RFC 1982).
        let before = |a: u32, b: u32| a != b && b.wrapping_sub(a) < 1 << 31;
        if let Some((_, _, what)) = self.times.iter().find(|(_, until, _)| before(*until, now)) {
            return (7, format!("the signature of {what} has expired"));
        }
        if let Some((_, _, what)) = self.times.iter().find(|(from, _, _)| before(now, *from)) {
            return (8, format!("the signature of {what} is not yet valid"));
        }
        if let Some(zone) = &self.keyless {
            return (9, format!("{zone} has no keys, and should"));
        }
        if let Some(code) = otherwise {
            return (
                code,
                "the answer says that there is nothing, and does not prove it".to_owned(),
            );
        }
        if let Some(name) = &self.unsigned {
            return (10, format!("the answer for {name} has no signature, and should"));
        }
        (6, "a signature does not fit".to_owned())
    }
}
