//! `portmaster gate17 map sign`: the next map, signed by the root keys that are here; and a document of another holder of
//! root keys, signed in turn until enough did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use clap::Args;
use gate17_proto::map::{self, Envelope, Held, MAP_TYPE, Map, ROOT_TYPE, Refused, Root, Trust};
use jiff::Timestamp;

use super::{
    folder::{self, MAP, NETWORK, Network, PENDING_MAP, now, read_trust, trust_for, verified, write},
    keys::{self, Key},
    rotate, take,
};
use crate::{output::print, printable::printable};

/// A map is used this long at most without a new one.
const MOST_DAYS: i64 = 366;
const DAYS: u32 = 30;

/// `portmaster gate17 map sign`
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The network's folder; or a document that waits for signatures
    #[arg(value_name = "DIR|DOCUMENT")]
    pub what: PathBuf,
    /// Root key to sign with [default: those in the folder]
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Sign with no key here: holders of root keys sign what is made
    #[arg(long, conflicts_with = "key")]
    pub draft: bool,
    /// Days that the map holds [default: 30]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=MOST_DAYS))]
    pub days: Option<u32>,
    /// Make another map in place of one that waits for signatures
    #[arg(long)]
    pub anew: bool,
    /// Of a document: whom to believe [default: trust.json beside it]
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

pub(super) fn sign(args: &SignArgs) -> Result<ExitCode> {
    if args.what.is_dir() {
        return next(args);
    }
    ensure!(
        args.days.is_none() && !args.anew && !args.draft,
        "{} is signed as it is: --days, --anew and --draft are for a network's folder",
        args.what.display()
    );
    document(args)
}

/// The next map of a folder.
fn next(args: &SignArgs) -> Result<ExitCode> {
    let dir = &args.what;
    let mut network = Network::open(dir)?;
    let (trust, root) = folder::root(dir)?;
    let pending = dir.join(PENDING_MAP);
    ensure!(
        args.anew || !pending.exists(),
        "a map waits for signatures already: `portmaster gate17 map sign {}` adds one, `--anew` makes another in its place",
        pending.display()
    );
    let keys = if args.draft {
        Vec::new()
    } else {
        keys::signing(&args.key, dir, &[&root])?
    };
    network.serial += 1;
    let map = draft(&network, &root, dir, args.days.unwrap_or(DAYS))?;
    makes_sense(&map)?;
    let mut envelope = Envelope::new(MAP_TYPE, &serde_json::to_vec(&map)?);
    sign_with(&mut envelope, &keys)?;
    let octets = serde_json::to_vec(&envelope)?;
    let found = envelope.signers(&root);
    let is_whole = found >= root.threshold;
    if is_whole {
        verified(&octets, &trust)?;
    }
    // first: a serial is never used for two maps
    network.store(dir)?;
    if is_whole {
        write(&dir.join(MAP), &octets)?;
        folder::discard(&pending)?;
        return print(&described(&dir.join(MAP), &map));
    }
    write(&pending, &octets)?;
    print(&format!(
        "{}{}",
        described(&pending, &map),
        waits(&pending, found, root.threshold)
    ))
}

fn draft(network: &Network, root: &Root, dir: &Path, days: u32) -> Result<Map> {
    let now = now()?;
    let seconds = |time: i64| Timestamp::from_second(time).context("this host's clock");
    Ok(Map {
        format: 1,
        network: network.network.clone(),
        serial: network.serial,
        issued: seconds(now.as_second())?,
        expires: seconds(now.as_second() + 86_400 * i64::from(days))?,
        root: root.clone(),
        rotations: folder::rotations(dir)?,
        access: network.access,
        knock: network.knock,
        tokens: network.tokens.iter().map(|member| member.shown).collect(),
        client_keys: network.client_keys.iter().map(|member| member.shown).collect(),
        nodes: network.nodes.clone(),
    })
}

/// Whether it would be taken if it were signed: whoever signs later need not find out that it is not.
fn makes_sense(map: &Map) -> Result<()> {
    let mut map = map.clone();
    let key = Ed25519KeyPair::generate().map_err(|_| anyhow::anyhow!("a key cannot be made"))?;
    map.rotations = Vec::new();
    map.root = Root {
        version: 1,
        threshold: 1,
        keys: map::public(&key).into_iter().collect(),
    };
    let trust = Trust {
        network: map.network.clone(),
        root: map.root.clone(),
    };
    let mut envelope = Envelope::new(MAP_TYPE, &serde_json::to_vec(&map)?);
    ensure!(envelope.sign(&key), "the map cannot be signed");
    verified(&serde_json::to_vec(&envelope)?, &trust).map(drop)
}

pub(super) fn sign_with(envelope: &mut Envelope, keys: &[Key]) -> Result<()> {
    for key in keys {
        ensure!(
            envelope.sign(&key.pair),
            "the document cannot be signed by {}",
            key.path.display()
        );
    }
    Ok(())
}

fn described(path: &Path, map: &Map) -> String {
    format!(
        "{}: map {}, {} nodes, holds until {}\n",
        path.display(),
        map.serial,
        map.nodes.len(),
        map.expires
    )
}

pub(super) fn waits(path: &Path, found: usize, needed: usize) -> String {
    format!(
        "  signed by {found} of the {needed} root keys that are needed: hand {name} to their holders, each signs it with\n  portmaster gate17 map sign {name} --key FILE --trust trust.json; the last one's goes where it is needed\n",
        name = path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned()
        )
    )
}

/// Somebody else's document: what it is, is shown and verified before anything is signed.
fn document(args: &SignArgs) -> Result<ExitCode> {
    let path = &args.what;
    let octets = fs::read(path).with_context(|| {
        format!(
            "read {}: give a network's folder, or a document that waits for signatures",
            path.display()
        )
    })?;
    let mut envelope: Envelope = serde_json::from_slice(&octets)
        .with_context(|| format!("{} is no signed document", path.display()))?;
    let trust = trust_for(args.trust.as_ref(), path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let (said, found, needed) = match envelope.payload_type.as_str() {
        MAP_TYPE => {
            let map = awaited(&octets, &envelope, &trust)?;
            let keys = keys::signing(&args.key, dir, &[&map.root])?;
            sign_with(&mut envelope, &keys)?;
            let found = envelope.signers(&map.root);
            (described(path, &map), found, map.root.threshold)
        }
        ROOT_TYPE => rotate::countersign(path, &mut envelope, &trust, args, dir)?,
        other => bail!(
            "{} is of type {:?}, neither a map nor a rotation",
            path.display(),
            printable(other)
        ),
    };
    write(path, &serde_json::to_vec(&envelope)?)?;
    if found < needed {
        return print(&(said + &waits(path, found, needed)));
    }
    print(&said)?;
    if dir.join(NETWORK).exists() {
        return take::take(dir, path);
    }
    print(
        "  it has the signatures that it needs: `portmaster gate17 network take DIR FILE` puts it into the network's folder\n",
    )
}

/// A map that lacks nothing but signatures.
fn awaited(octets: &[u8], envelope: &Envelope, trust: &Trust) -> Result<Map> {
    match Held::new(trust.clone()).accept(octets, now()?) {
        Ok(_) | Err(Refused::Unsigned | Refused::TooFew { .. }) => {}
        Err(refused) => return Err(refused.into()),
    }
    let payload = envelope.octets().context("its payload is no base64")?;
    serde_json::from_slice(&payload).context("the map cannot be read")
}

/// What `trust.json` of a folder says, for the documents in it.
pub(super) fn trust_of(dir: &Path) -> Result<Trust> {
    read_trust(&dir.join(folder::TRUST))
}
