//! `portmaster gate17 network take`: a document that has its signatures, into the network's folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use gate17_proto::map::{Envelope, MAP_TYPE, ROOT_TYPE};

use super::{
    folder::{self, MAP, Network, PENDING_MAP, PENDING_ROTATION, discard, verified, write},
    rotate, sign,
};
use crate::{output::print, printable::printable};

/// `portmaster gate17 network take`
#[derive(Debug, Args)]
pub struct TakeArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// A map, or a rotation of the root, that enough root keys signed; copies that were signed apart count together
    #[arg(required = true)]
    pub document: Vec<PathBuf>,
}

/// One document of several copies, with all of their signatures.
pub(super) fn take_all(args: &TakeArgs) -> Result<ExitCode> {
    let [first, others @ ..] = args.document.as_slice() else {
        bail!("no document is given");
    };
    let mut whole = read(first)?;
    for path in others {
        let copy = read(path)?;
        ensure!(
            (&copy.payload, &copy.payload_type) == (&whole.payload, &whole.payload_type),
            "{} is no copy of {}: take them one after the other",
            path.display(),
            first.display()
        );
        for signature in copy.signatures {
            if !whole.signatures.contains(&signature) {
                whole.signatures.push(signature);
            }
        }
    }
    take_whole(&args.dir, first, whole)
}

pub(super) fn take(dir: &Path, document: &Path) -> Result<ExitCode> {
    take_whole(dir, document, read(document)?)
}

fn read(document: &Path) -> Result<Envelope> {
    let octets = fs::read(document).with_context(|| format!("read {}", document.display()))?;
    serde_json::from_slice(&octets).with_context(|| format!("{} is no signed document", document.display()))
}

fn take_whole(dir: &Path, document: &Path, envelope: Envelope) -> Result<ExitCode> {
    match envelope.payload_type.as_str() {
        MAP_TYPE => map(dir, document, &serde_json::to_vec(&envelope)?),
        ROOT_TYPE => rotation(dir, document, envelope),
        other => bail!(
            "{} is of type {:?}, neither a map nor a rotation",
            document.display(),
            printable(other)
        ),
    }
}

fn map(dir: &Path, document: &Path, octets: &[u8]) -> Result<ExitCode> {
    let mut network = Network::open(dir)?;
    let trust = sign::trust_of(dir)?;
    let map = verified(octets, &trust).with_context(|| format!("take {}", document.display()))?;
    let here = fs::read(dir.join(MAP)).ok();
    let here = here.and_then(|octets| verified(&octets, &trust).ok());
    if let Some(here) = here {
        ensure!(
            map.serial >= here.serial,
            "{} is map {}, and {} is map {} already: it is not put back",
            document.display(),
            map.serial,
            dir.join(MAP).display(),
            here.serial
        );
    }
    if map.serial > network.serial {
        network.serial = map.serial;
        network.store(dir)?;
    }
    write(&dir.join(MAP), octets)?;
    // the one that waited is this one, or an older one
    discard(&dir.join(PENDING_MAP))?;
    print(&format!(
        "{}: map {} is whole: give it to the nodes\n",
        dir.join(MAP).display(),
        map.serial
    ))
}

fn rotation(dir: &Path, document: &Path, envelope: Envelope) -> Result<ExitCode> {
    let (trust, root) = folder::root(dir)?;
    let next = rotate::check(&envelope, &trust.network, &root)
        .with_context(|| format!("take {}", document.display()))?;
    for (which, root) in [("before it", &root), ("of its own", &next)] {
        let found = envelope.signers(root);
        ensure!(
            found >= root.threshold,
            "{} is signed by {found} of the {} keys {which} that are needed: have the others sign it",
            document.display(),
            root.threshold
        );
    }
    folder::add_rotation(dir, envelope)?;
    discard(&dir.join(PENDING_ROTATION))?;
    // it was to be signed by the root of before
    let pending = dir.join(PENDING_MAP);
    let waited = if pending.exists() {
        discard(&pending)?;
        "  the map that waited for signatures is void: it was of the root before\n"
    } else {
        ""
    };
    print(&format!(
        "root {}: {} of {} keys sign from now on; {} is for new members\n{waited}  `portmaster gate17 map sign {}` makes a map by which all others learn of it\n",
        next.version,
        next.threshold,
        next.keys.len(),
        dir.join(folder::TRUST).display(),
        dir.display()
    ))
}
