//! `portmaster gate17 network rotate-root`: other keys sign from now on, as enough of the old and of the new ones say.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use gate17_proto::map::{Envelope, PublicKey, ROOT_TYPE, Root, Rotation, Trust};

use super::{
    folder::{self, Network, PENDING_ROTATION, write},
    init,
    keys::{self, Key},
    sign::{SignArgs, sign_with, waits},
    take,
};
use crate::output::print;

/// `portmaster gate17 network rotate-root`
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Root keys to make here
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub new_keys: u8,
    /// Root key that is to sign as well: ed25519:… or a file with it
    #[arg(long, value_name = "KEY")]
    pub add: Vec<String>,
    /// Root key that is to sign no more: ed25519:… or a file with it
    #[arg(long, value_name = "KEY")]
    pub remove: Vec<String>,
    /// How many sign [default: as many as before, or all if those are fewer]
    #[arg(long, value_name = "K")]
    pub threshold: Option<usize>,
    /// Root key to sign with [default: those in the folder]
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Make another rotation in place of one that waits for signatures
    #[arg(long)]
    pub anew: bool,
}

pub(super) fn rotate(args: &RotateArgs) -> Result<ExitCode> {
    let dir = &args.dir;
    let network = Network::open(dir)?;
    let (_, root) = folder::root(dir)?;
    let says_something =
        args.new_keys > 0 || !args.add.is_empty() || !args.remove.is_empty() || args.threshold.is_some();
    ensure!(
        says_something,
        "the root would stay as it is: give --new-keys, --add, --remove or --threshold"
    );
    let pending = dir.join(PENDING_ROTATION);
    ensure!(
        args.anew || !pending.exists(),
        "a rotation waits for signatures already: `portmaster gate17 map sign {}` adds one, `--anew` makes another in its place",
        pending.display()
    );
    let mut kept = others(&root, args)?;
    let count = kept.len() + usize::from(args.new_keys);
    let threshold = args.threshold.unwrap_or_else(|| root.threshold.min(count));
    init::check(&kept, count, threshold)?;
    // whoever cannot sign makes no keys either
    let own = keys::signing(&args.key, dir, &[&root])?;
    let made = init::make(dir, args.new_keys)?;
    kept.extend(made.iter().map(|key| key.public));
    let next = Root {
        version: root.version.checked_add(1).context("the root's version")?,
        threshold,
        keys: kept,
    };
    let rotation = Rotation {
        network: network.network,
        root: next,
    };
    let mut envelope = Envelope::new(ROOT_TYPE, &serde_json::to_vec(&rotation)?);
    sign_with(&mut envelope, &own)?;
    sign_with(&mut envelope, &made)?;
    let (found, needed) = count_of(&envelope, &root, &rotation.root);
    write(&pending, &serde_json::to_vec(&envelope)?)?;
    let files: String = made
        .iter()
        .map(|key| format!("{}: a new root key; keep it to yourself\n", key.path.display()))
        .collect();
    if found >= needed {
        print(&files)?;
        return take::take(dir, &pending);
    }
    print(&format!(
        "{files}{}{}",
        described(&pending, &rotation.root),
        waits(&pending, found, needed)
    ))
}

/// Those that stay, and those that were made elsewhere.
fn others(root: &Root, args: &RotateArgs) -> Result<Vec<PublicKey>> {
    let mut keys = root.keys.clone();
    for text in &args.remove {
        let gone = keys::public(text)?;
        let before = keys.len();
        keys.retain(|key| *key != gone);
        ensure!(
            keys.len() < before,
            "{} is no root key: those are {}",
            String::from(gone),
            keys.iter()
                .map(|key| String::from(*key))
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    for text in &args.add {
        keys.push(keys::public(text)?);
    }
    Ok(keys)
}

/// Signatures that count, and how many are needed, of the old root and the new one together.
fn count_of(envelope: &Envelope, old: &Root, new: &Root) -> (usize, usize) {
    let of = |root: &Root| envelope.signers(root).min(root.threshold);
    (of(old) + of(new), old.threshold + new.threshold)
}

fn described(path: &Path, root: &Root) -> String {
    format!(
        "{}: rotation to root {}: {} of {} keys\n",
        path.display(),
        root.version,
        root.threshold,
        root.keys.len()
    )
}

/// The root that a rotation leads to from `root`; its signatures are not looked at.
pub(super) fn check(envelope: &Envelope, network: &str, root: &Root) -> Result<Root> {
    let rotation = folder::rotation(envelope)?;
    ensure!(
        rotation.network == network,
        "the rotation is of the network {:?}, not of {network:?}",
        rotation.network
    );
    ensure!(
        Some(rotation.root.version) == root.version.checked_add(1),
        "the rotation leads to root {}, and root {} is known: have it made anew, or take the ones between first",
        rotation.root.version,
        root.version
    );
    let next = rotation.root;
    init::check(&next.keys, next.keys.len(), next.threshold)?;
    Ok(next)
}

/// Signs a rotation in turn; what it is, and how many signatures it has of those that are needed.
pub(super) fn countersign(
    path: &Path,
    envelope: &mut Envelope,
    trust: &Trust,
    args: &SignArgs,
    dir: &Path,
) -> Result<(String, usize, usize)> {
    let next = check(envelope, &trust.network, &trust.root)
        .context("name the trust.json of the root before with --trust")?;
    let keys: Vec<Key> = keys::signing(&args.key, dir, &[&trust.root, &next])?;
    sign_with(envelope, &keys)?;
    let (found, needed) = count_of(envelope, &trust.root, &next);
    Ok((described(path, &next), found, needed))
}
