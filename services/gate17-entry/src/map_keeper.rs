//! The map, as this host keeps it. Without one that holds nothing is carried.

mod fetching;

use gate17_maps::NoMap;
use proto::gate17::v1::Cause;

use crate::refusal::Refusal;

pub use fetching::Sources;
pub use gate17_maps::{Maps, check_url};

impl From<NoMap> for Refusal {
    fn from(none: NoMap) -> Self {
        Self::new(Cause::NoPath, none.text)
    }
}
