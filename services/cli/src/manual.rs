//! Completions and man pages, from the same tree as the help texts.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};

use crate::{
    args::{Cli, CompletionsArgs, ManArgs},
    output::print,
};

/// `portmaster completions`
pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portmaster", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `portmaster man`
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode> {
    match &args.out {
        None => print(&page(tree())?),
        Some(folder) => write_all(folder),
    }
}

/// The tree with all names in full (`portmaster-rules-check`) and without clap's own `help` command.
fn tree() -> Command {
    let mut tree = Cli::command().disable_help_subcommand(true);
    tree.build();
    tree
}

fn write_all(folder: &Path) -> Result<ExitCode> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut waiting = vec![tree()];
    while let Some(command) = waiting.pop() {
        waiting.extend(
            command
                .get_subcommands()
                .filter(|child| !child.is_hide_set())
                .cloned(),
        );
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page(command)?).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: Command) -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .context("render a man page")?;
    String::from_utf8(page).context("render a man page")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        let mut waiting = vec![tree()];
        while let Some(command) = waiting.pop() {
            assert!(command.get_about().is_some(), "{} has none", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has none",
                    command.get_name(),
                    argument.get_id()
                );
            }
            waiting.extend(command.get_subcommands().cloned());
        }
    }
}
