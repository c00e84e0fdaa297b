//! What the binary does beside being a service: the rules alone, in, out, or as text.

use daemon::{Context, Paths};
use verdict::mark::MarkScheme;

use crate::{
    config::{Config, OnCrash},
    firewall::{self, Firewall},
    start::Args,
    stopped,
};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print the rules.
    PrintRules,
    /// Load the rules, so that nothing passes undecided before the service is up.
    ApplyRules,
    /// Remove the rules.
    Cleanup,
    /// Remove the rules if the service ended for good.
    AfterStop {
        /// Of the service manager.
        unit: String,
    },
}

/// Does it.
pub async fn run(
    command: Command,
    context: &Context<Config, Args>,
    scheme: MarkScheme,
) -> anyhow::Result<()> {
    let (config, paths) = (&context.config, &context.paths);
    match command {
        Command::PrintRules => print_rules(config, scheme),
        Command::ApplyRules => apply(config, scheme, paths).await,
        Command::Cleanup => cleanup(paths).await,
        Command::AfterStop { unit } => after_stop(config, paths, &unit).await,
    }
}

#[expect(clippy::print_stdout, reason = "that is what --print-rules is for")]
fn print_rules(config: &Config, scheme: MarkScheme) -> anyhow::Result<()> {
    print!("{}", firewall::print_rules(&config.firewall, scheme)?);
    Ok(())
}

async fn apply(config: &Config, scheme: MarkScheme, paths: &Paths) -> anyhow::Result<()> {
    let (_, problems) = Firewall::load(&config.firewall, scheme, &paths.runtime).await?;
    for problem in problems {
        tracing::warn!(code = problem.code, "{}", problem.text);
    }
    Ok(())
}

async fn cleanup(paths: &Paths) -> anyhow::Result<()> {
    let removed = firewall::cleanup(&paths.runtime).await?;
    tracing::info!(from = removed.from.len(), "rules removed");
    Ok(())
}

/// `ExecStopPost=`: the rules go where the owner stopped the service, and stay where it will be back.
async fn after_stop(config: &Config, paths: &Paths, unit: &str) -> anyhow::Result<()> {
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    let ending = if result == "success" {
        stopped::ending(unit).await
    } else {
        stopped::Ending::Crash
    };
    match (ending, config.on_crash) {
        (stopped::Ending::Stop, _) => cleanup(paths).await,
        (stopped::Ending::Crash, OnCrash::Open) => {
            tracing::warn!(
                result,
                "ended unasked; on_crash = \"open\": everything passes until it is back"
            );
            cleanup(paths).await
        }
        (stopped::Ending::Crash, OnCrash::Closed) => {
            tracing::warn!(
                result,
                "ended unasked; new connections wait, or are dropped, until it is back"
            );
            Ok(())
        }
        (stopped::Ending::Restart, _) => Ok(()),
    }
}
