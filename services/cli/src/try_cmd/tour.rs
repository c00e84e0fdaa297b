//! The tour: real programs connect to the playground internet, and each connection must come out as it should.

mod recorder;
mod scenes;
mod stage;
mod tunnel;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use super::{shell::need, world::World};
use recorder::Recorder;
use stage::Stage;
pub(super) use tunnel::{config as tunnel_config, config_for_all as tunnel_everything};

/// The programs that take part, by the file that is executed: that is what a profile names.
pub(super) struct Cast {
    pub(super) curl: PathBuf,
    pub(super) dig: PathBuf,
    pub(super) nc: PathBuf,
    pub(super) ping: PathBuf,
    pub(super) python: PathBuf,
}

impl Cast {
    fn assemble() -> Result<Self> {
        let real = |program, package| {
            let path = need(program, package)?;
            path.canonicalize()
                .with_context(|| format!("find {}", path.display()))
        };
        Ok(Self {
            curl: real("curl", "curl")?,
            dig: real("dig", "bind9-dnsutils")?,
            nc: real("nc", "netcat-openbsd")?,
            ping: real("ping", "iputils-ping")?,
            python: real("python3", "python3")?,
        })
    }
}

/// Writes the tour's profiles; `folder` is laid out like `/etc/portmaster`.
pub(super) fn config(folder: &Path) -> Result<()> {
    let cast = Cast::assemble()?;
    let profiles = folder.join("profiles.d");
    fs::create_dir_all(&profiles).with_context(|| format!("make {}", profiles.display()))?;
    for (id, text) in scenes::profiles(&cast) {
        write_profile(folder, id, &text)?;
    }
    Ok(())
}

/// As an editor does it: never half a file.
fn write_profile(folder: &Path, id: &str, text: &str) -> Result<()> {
    let path = folder.join("profiles.d").join(format!("{id}.toml"));
    let new = path.with_added_extension("new");
    fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, &path).with_context(|| format!("write {}", path.display()))
}

/// Which scenes are played.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Play {
    Firewall,
    Tunnel,
}

/// Plays all scenes. The exit status is 0 only if each came out as it should.
#[expect(clippy::print_stdout, reason = "the tour is there to be read")]
pub(super) async fn run(mut world: World, play: Play) -> Result<ExitCode> {
    let recorder = Recorder::start(world.channel("interceptor")?).await?;
    println!(
        "A firewall of its own: network namespace {}, with {} as the internet.",
        world.namespace(),
        world.internet()
    );
    if let Some(nodes) = world.nodes() {
        print!("{nodes}");
    }
    println!("    {}", recorder::head());
    let mut stage = Stage::new(&world, Cast::assemble()?, recorder);
    let played = match play {
        Play::Firewall => scenes::play(&mut stage).await,
        Play::Tunnel => tunnel::play(&mut stage).await,
    };
    let (passed, failed) = stage.counts();
    let log = (failed > 0 || played.is_err()).then(|| fs::read_to_string(world.folder().join("mesh.log")));
    drop(stage);
    world.stop().await;
    world.sweep();
    if let Some(Ok(log)) = log {
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        eprintln!("\nThe last that the services said:\n{}", tail.join("\n"));
    }
    played?;
    println!("\n{passed} of {} came out as they should.", passed + failed);
    if failed == 0 {
        println!("{}", next(play));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const fn next(play: Play) -> &'static str {
    match play {
        Play::Firewall => {
            "Next: `portmaster try -- COMMAND` runs a program of yours behind it, `--uplink` lets it out."
        }
        Play::Tunnel => {
            "Next: `portmaster try --gate17 -- COMMAND` sends all that a program of yours connects to through the tunnel."
        }
    }
}
