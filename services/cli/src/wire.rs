//! Words of the wire as the stable texts of `verdict`; "" for a word that this program does not know.

pub(crate) use proto::convert::{address_text, miss_text as miss};
use proto::flow::v1 as flow;
use verdict::{Direction, Protocol, Scope, Verdict, Why};

pub(crate) fn direction(word: flow::Direction) -> &'static str {
    Option::<Direction>::from(word).map_or("", Direction::text)
}

pub(crate) fn scope(word: flow::Scope) -> &'static str {
    Option::<Scope>::from(word).map_or("", Scope::text)
}

pub(crate) fn verdict(word: flow::Verdict) -> &'static str {
    Option::<Verdict>::from(word).map_or("", Verdict::text)
}

pub(crate) fn why(word: flow::Why) -> &'static str {
    Option::<Why>::from(word).map_or("", Why::text)
}

pub(crate) fn protocol(number: u32) -> Option<Protocol> {
    u8::try_from(number).ok().map(Protocol)
}
