//! What an answer holds.

use dns_core::wire::{Answer, Query, Response};

use crate::filter::Held;

/// What an answer holds, as those who judge it need it.
pub(super) fn of(answer: &Answer, query: &Query) -> Held {
    let message = answer.to_message(query.key());
    let Ok(response) = Response::parse(&message) else {
        return Held::default();
    };
    let addresses = response.addresses().unwrap_or_default();
    let hints = response.hints().unwrap_or_default();
    let mut aliases = response.chain().unwrap_or_default();
    if !aliases.is_empty() {
        aliases.remove(0); // the question itself
    }
    aliases.extend(
        hints
            .iter()
            .filter(|hint| !hint.target.is_root())
            .map(|hint| hint.target.clone()),
    );
    let hinted = hints.into_iter().flat_map(|hint| hint.addresses);
    Held {
        aliases,
        addresses: addresses
            .into_iter()
            .map(|address| address.address)
            .chain(hinted)
            .collect(),
    }
}
