//! The kernel's two packet filters, and the programs that speak to them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use verdict::ruleset::{Family, Saved, TableName};

use super::{BackendChoice, Error, command, legacy};

/// Which packet filter. Both read and write the same text; a rule in one is invisible to the other's programs, and
/// packets pass both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// nf_tables, through `iptables-nft-*`.
    Nft,
    /// x_tables, through `iptables-legacy-*`.
    Legacy,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}

impl Backend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// The one that is not this one.
    pub const fn other(self) -> Self {
        match self {
            Self::Nft => Self::Legacy,
            Self::Legacy => Self::Nft,
        }
    }

    /// Of the plain program, for the `iptables` crate, which wants a name that lives for ever.
    pub(super) const fn program(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Nft, Family::V4) => "iptables-nft",
            (Self::Nft, Family::V6) => "ip6tables-nft",
            (Self::Legacy, Family::V4) => "iptables-legacy",
            (Self::Legacy, Family::V6) => "ip6tables-legacy",
        }
    }

    /// Errors where it is not installed.
    pub(super) fn tools(self, family: Family, lock: Option<&Path>) -> Result<Tools, Error> {
        let tool = |name: &str| {
            let program = format!("{}-{name}", self.program(family));
            command::find(&[&program]).ok_or(Error::NoProgram(program))
        };
        Ok(Tools {
            save: tool("save")?,
            restore: tool("restore")?,
            lock: lock.map(Path::to_owned),
            tables: Tables::of(self, family),
        })
    }
}

/// The back end of this host.
pub(super) async fn choose(choice: BackendChoice) -> Result<Backend, Error> {
    match choice {
        BackendChoice::Nft => Ok(Backend::Nft),
        BackendChoice::Legacy => Ok(Backend::Legacy),
        BackendChoice::Auto => {
            let program =
                command::find(&["iptables"]).ok_or_else(|| Error::NoProgram("iptables".to_owned()))?;
            Ok(of_version(
                &command::run(&program, &["--version"], "", None).await?,
            ))
        }
    }
}

/// `iptables v1.8.9 (nf_tables)`; versions before 1.8 name no back end and have but one.
fn of_version(said: &str) -> Backend {
    if said.contains("nf_tables") {
        Backend::Nft
    } else {
        Backend::Legacy
    }
}

/// The programs of one back end and family.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    save: PathBuf,
    restore: PathBuf,
    lock: Option<PathBuf>,
    tables: Tables,
}

/// Whether this back end has tables in this thread's network namespace. Asking for one that is not there makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    /// It has, or asking does no harm.
    Told,
    /// It has none.
    None,
    /// That is not for us to know.
    Hidden,
}

impl Tables {
    fn of(backend: Backend, family: Family) -> Self {
        let names = match (backend, family) {
            (Backend::Nft, _) => return Self::Told,
            (Backend::Legacy, Family::V4) => "/proc/thread-self/net/ip_tables_names",
            (Backend::Legacy, Family::V6) => "/proc/thread-self/net/ip6_tables_names",
        };
        match fs::read_to_string(names) {
            Ok(names) if names.trim().is_empty() => Self::None,
            Ok(_) => Self::Told,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Hidden,
            Err(_) => Self::None,
        }
    }
}

impl Tools {
    /// What the kernel holds. The legacy programs learn from a file for root alone which tables there are; to others they
    /// still tell each table by its name.
    pub(super) async fn read(&self) -> Result<Saved, Error> {
        if self.tables != Tables::Hidden {
            let text = command::run(&self.save, &[], "", self.lock.as_deref()).await?;
            return Ok(Saved::parse(&text));
        }
        let mut text = String::new();
        for table in TableName::ALL {
            text += &command::run(&self.save, &["-t", table.text()], "", self.lock.as_deref()).await?;
        }
        Ok(Saved::parse(&text))
    }

    /// There may be rules: the kernel has tables of this back end, or hides which and would let us change them.
    pub(super) fn may_hold_rules(&self) -> bool {
        match self.tables {
            Tables::Told => true,
            Tables::None => false,
            Tables::Hidden => legacy::is_permitted(),
        }
    }

    /// Loads `text`, each table at once or not at all. Tested first, since a bad table leaves those before it loaded.
    pub(super) async fn load(&self, text: &str) -> Result<(), Error> {
        for arguments in [
            &["--noflush", "--wait", "5", "--test"][..],
            &["--noflush", "--wait", "5"],
        ] {
            command::run(&self.restore, arguments, text, self.lock.as_deref()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_the_back_end() {
        assert_eq!(of_version("iptables v1.8.9 (nf_tables)\n"), Backend::Nft);
        assert_eq!(of_version("iptables v1.8.9 (legacy)\n"), Backend::Legacy);
        assert_eq!(of_version("iptables v1.6.1\n"), Backend::Legacy);
    }
}
