//! Answers that a wildcard made: proved when nothing closer to the name exists (RFC 4035 §5.3.4). Pure.
//!
//! hickory 0.26 refuses two kinds of good ones: where the NSEC record that covers the name belongs to the wildcard itself
//! (the wildcard is the last name before the gap, as it is in most zones), and where an alias leads to a wildcard. This
//! looks at such an answer once more, at records that hickory has proved.

use hickory_proto::{
    dnssec::{
        Proof,
        rdata::{DNSSECRData, NSEC, RRSIG},
    },
    op::Message,
    rr::{Name, RData, Record, RecordType},
};

/// Whether every record of the answer is proved and every name that a wildcard stands for is shown not to exist.
pub(super) fn is_proved(message: &Message) -> bool {
    let plain = |record: &&Record| record.record_type() != RecordType::RRSIG;
    let mut records = message.answers.iter().filter(plain).peekable();
    records.peek().is_some()
        && records.all(|record| record.proof == Proof::Secure)
        && expanded(message).all(|(name, signature)| {
            let source = name.trim_to(signature.input().num_labels.into());
            denials(message).any(|(owner, nsec)| shows_nothing_closer(owner, nsec, name, &source))
        })
}

/// The names that wildcards stand for: their signatures count fewer labels than they have (RFC 4034 §3.1.3).
fn expanded(message: &Message) -> impl Iterator<Item = (&Name, &RRSIG)> {
    message.answers.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) if record.proof == Proof::Secure => {
            let labels = signature.input().num_labels;
            (labels < record.name.num_labels()).then_some((&record.name, signature))
        }
        _ => None,
    })
}

fn denials(message: &Message) -> impl Iterator<Item = (&Name, &NSEC)> {
    message
        .authorities
        .iter()
        .filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) if record.proof == Proof::Secure => {
                Some((&record.name, nsec))
            }
            _ => None,
        })
}

/// Whether `name` lies in the gap after `owner`, and nothing between it and `source`, the wildcard's parent, exists.
fn shows_nothing_closer(owner: &Name, nsec: &NSEC, name: &Name, source: &Name) -> bool {
    if nsec.is_ancestor_delegation() && owner.zone_of(name) {
        return false; // the other side of a zone's cut (RFC 6840 §4.1)
    }
    let next = nsec.next_domain_name();
    let last = next <= owner;
    let covers = name > owner && (name < next || (last && next.zone_of(name)));
    let closest = shared(owner, name).max(shared(next, name));
    covers && source.zone_of(name) && closest == labels(source)
}

/// How many labels two names have in common at their ends.
fn shared(a: &Name, b: &Name) -> usize {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}

fn labels(name: &Name) -> usize {
    name.iter().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn shows(owner: &str, next: &str, asked: &str, source: &str) -> bool {
        let nsec = NSEC::new(name(next), [RecordType::A]);
        shows_nothing_closer(&name(owner), &nsec, &name(asked), &name(source))
    }

    #[test]
    fn a_gap_after_the_wildcard_itself_shows_that_nothing_is_closer() {
        assert!(shows("*.w.z.", "x.z.", "a.w.z.", "w.z."));
        assert!(
            shows("*.w.z.", "z.", "a.b.w.z.", "w.z."),
            "the last gap of a zone"
        );
        assert!(shows(
            "*.wild.good.test.",
            "wilder.good.test.",
            "any.wild.good.test.",
            "wild.good.test."
        ));
        let trimmed = name("any.wild.good.test.").trim_to(3);
        assert_eq!(trimmed, name("wild.good.test."));
        assert!(trimmed.zone_of(&name("any.wild.good.test.")));
    }

    #[test]
    fn what_is_not_in_the_gap_or_has_something_closer_is_not_shown() {
        assert!(!shows("a.w.z.", "b.w.z.", "a.w.z.", "w.z."), "the name itself");
        assert!(!shows("a.w.z.", "b.w.z.", "c.w.z.", "w.z."), "beyond the gap");
        assert!(!shows("*.w.z.", "b.w.z.", "a.b.w.z.", "w.z."), "b.w exists");
        assert!(
            !shows("a.b.w.z.", "x.z.", "c.b.w.z.", "w.z."),
            "b.w exists, and is closer than w"
        );
        assert!(!shows("*.w.z.", "x.z.", "a.w.z.", "v.z."), "another wildcard");
    }

    #[test]
    fn the_parents_side_of_a_cut_shows_nothing() {
        let nsec = NSEC::new(name("x.z."), [RecordType::NS]);
        assert!(!shows_nothing_closer(
            &name("w.z."),
            &nsec,
            &name("a.w.z."),
            &name("w.z.")
        ));
    }
}
