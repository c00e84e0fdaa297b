//! Who is admitted, as `network.toml` has it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who is admitted, and what the operator calls him; maps have only `shown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct Member<T> {
    pub(super) name: String,
    pub(super) shown: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "neither a table of `name` and `shown` nor a digest or key alone"
)]
enum Written<T> {
    Named {
        name: String,
        shown: T,
        since: Option<Timestamp>,
    },
    Alone(T),
}

impl<T> From<Written<T>> for Member<T> {
    fn from(written: Written<T>) -> Self {
        match written {
            Written::Named { name, shown, since } => Self { name, shown, since },
            Written::Alone(shown) => Self {
                name: String::new(),
                shown,
                since: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use gate17_proto::map::Digest;

    use super::super::folder::Network;

    #[test]
    fn digests_are_read_with_and_without_names_and_written_with_them() {
        let text = format!(
            "network = 'x'\nserial = 1\naccess = 'token'\nknock = '{0}'\ntokens = ['sha256:{0}', {{ name = 'ann', shown = 'sha256:{1}' }}]\n",
            "17".repeat(32),
            "18".repeat(32)
        );
        let network: Network = toml::from_str(&text).unwrap();
        assert_eq!(network.tokens[0].shown, Digest([0x17; 32]));
        assert_eq!(
            (network.tokens[1].name.as_str(), network.tokens[1].shown),
            ("ann", Digest([0x18; 32]))
        );
        let written = toml::to_string(&network).unwrap();
        let again: Network = toml::from_str(&written).unwrap();
        assert_eq!(again.tokens, network.tokens);
        let wrong = text.replace("'ann', shown", "'ann', seen");
        let said = toml::from_str::<Network>(&wrong).unwrap_err().to_string();
        assert!(said.contains("a table of `name` and `shown`"), "{said}");
    }
}
