//! What is said of a host.

use serde::Serialize;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) level: Level,
    /// Which kind of thing it is: a word for programs.
    pub(super) code: &'static str,
    /// What was found, where, and whose it is.
    pub(super) what: String,
    /// What helps, or why nothing is needed.
    pub(super) remedy: String,
}

/// The worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    /// In the way: one of the two does not work, or not as it says.
    Clash,
    /// It could not be looked at.
    Unknown,
    /// In the way of a service that is yet to come.
    Later,
    /// Works beside us.
    Beside,
}

impl Level {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Clash => "clash",
            Self::Unknown => "unknown",
            Self::Later => "later",
            Self::Beside => "beside",
        }
    }
}

impl Finding {
    pub(super) fn new(
        level: Level,
        code: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            level,
            code,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}
