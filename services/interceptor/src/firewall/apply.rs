//! Loading and comparing.

use std::path::Path;

use verdict::ruleset::{Deviation, Family, Saved, TableName, render_install, render_removal, verify};

use super::{Backend, Error, Firewall, backend::Tools};

/// What [`Firewall::apply`] did.
#[derive(Debug)]
pub struct Applied {
    /// Where the rules live.
    pub backend: Backend,
    /// Whose rules are loaded. Without [`Family::V6`] this host either has no IPv6, or a problem says more.
    pub families: Vec<Family>,
    /// What is not as it should be, though the rules of IPv4 are loaded.
    pub problems: Vec<Problem>,
}

/// The rules of a family are not in force. Over when the watcher says [`super::Report::Settled`].
const BROKEN: &str = "firewall-broken";

/// Something that the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable word.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// A difference between the rules and the kernel, with its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose rules.
    pub family: Family,
    /// What is different.
    pub deviation: Deviation,
}

impl Firewall {
    /// Loads all rules of both families and reads them back; loading them again changes nothing. Rules of ours in the
    /// other back end, of an earlier start, are taken out afterwards, so that no packet is asked twice.
    ///
    /// Errors where the rules of IPv4 cannot be loaded; nothing of ours is left then if nothing was there before.
    pub async fn apply(&self) -> Result<Applied, Error> {
        self.apply_family(Family::V4).await?;
        let mut applied = Applied {
            backend: self.backend,
            families: vec![Family::V4],
            problems: Vec::new(),
        };
        if has_ipv6() {
            match self.apply_family(Family::V6).await {
                Ok(()) => {
                    applied.families.push(Family::V6);
                    applied.problems.extend(self.set_route());
                }
                Err(error) => applied.problems.push(Problem::unprotected(&error)),
            }
        }
        applied.problems.extend(self.remove_leftovers().await);
        Ok(applied)
    }

    /// Compares the rules with what the kernel holds. Empty: as it should be.
    pub async fn verify(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        for family in families() {
            let deviations = self.verify_family(family).await?.into_iter();
            findings.extend(deviations.map(|deviation| Finding { family, deviation }));
        }
        Ok(findings)
    }

    pub(super) async fn apply_family(&self, family: Family) -> Result<(), Error> {
        let tools = self.tools(family)?;
        let before = readable(family, &tools).await?;
        if verify(&self.rules, family, &before).is_empty() {
            return Ok(());
        }
        let text = render_install(&self.rules, family, &before, &TableName::ALL);
        let result = match tools.load(&text).await {
            Ok(()) => self.read_back(family, &tools).await,
            Err(error) => Err(error),
        };
        if result.is_err() && !before.has_ours() {
            take_back(&tools).await;
        }
        result
    }

    pub(super) async fn verify_family(&self, family: Family) -> Result<Vec<Deviation>, Error> {
        let saved = readable(family, &self.tools(family)?).await?;
        Ok(verify(&self.rules, family, &saved))
    }

    /// Loads the tables that deviate, and reads back.
    pub(super) async fn repair(&self, family: Family, deviations: &[Deviation]) -> Result<(), Error> {
        let broken = |table: &TableName| deviations.iter().any(|deviation| deviation.table() == *table);
        let tables: Vec<_> = TableName::ALL.into_iter().filter(broken).collect();
        let tools = self.tools(family)?;
        let text = render_install(&self.rules, family, &readable(family, &tools).await?, &tables);
        tools.load(&text).await?;
        self.read_back(family, &tools).await
    }

    async fn read_back(&self, family: Family, tools: &Tools) -> Result<(), Error> {
        let deviations = verify(&self.rules, family, &readable(family, tools).await?);
        if deviations.is_empty() {
            Ok(())
        } else {
            Err(Error::Unverified { family, deviations })
        }
    }

    async fn remove_leftovers(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for family in Family::ALL {
            let other = self.backend.other();
            if let Err(error) = super::cleanup::remove(other, family, self.lock()).await {
                let text = format!(
                    "{family} rules of ours may be left in {other}, and ask every packet twice: {}",
                    told(&error)
                );
                problems.push(Problem {
                    code: "firewall-leftovers",
                    text,
                });
            }
        }
        problems
    }

    fn tools(&self, family: Family) -> Result<Tools, Error> {
        self.backend.tools(family, self.lock())
    }

    fn lock(&self) -> Option<&Path> {
        self.lock.as_deref()
    }
}

impl Problem {
    pub(super) fn unprotected(error: &Error) -> Self {
        let text = format!(
            "IPv6 is not filtered: {}; tried again every few seconds",
            told(error)
        );
        Self { code: BROKEN, text }
    }

    pub(super) fn unrepaired(family: Family, error: &Error) -> Self {
        let text = format!(
            "the {family} rules are not as they should be: {}; tried again every few seconds",
            told(error)
        );
        Self { code: BROKEN, text }
    }
}

/// An error with what is behind it.
pub(super) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A table that cannot be read is no empty table: loaded again and again, it would be filled without end.
async fn readable(family: Family, tools: &Tools) -> Result<Saved, Error> {
    let saved = tools.read().await?;
    match saved.unreadable() {
        [] => Ok(saved),
        tables => Err(Error::Unreadable {
            family,
            tables: tables.to_vec(),
        }),
    }
}

/// A first load that failed half way must not leave the host without a network.
async fn take_back(tools: &Tools) {
    if let Ok(saved) = tools.read().await
        && let Some(text) = render_removal(&saved)
        && let Err(error) = tools.load(&text).await
    {
        tracing::error!(%error, "rules that were loaded in part could not be taken back");
    }
}

/// Those that the kernel speaks.
pub(super) fn families() -> impl Iterator<Item = Family> {
    Family::ALL
        .into_iter()
        .filter(|family| *family == Family::V4 || has_ipv6())
}

/// The kernel speaks IPv6 (in this thread's namespace): it may be absent, or switched off at boot.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/thread-self/net/if_inet6").exists()
}
