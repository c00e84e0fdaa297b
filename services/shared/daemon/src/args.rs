//! Arguments that every service has.

use std::path::PathBuf;

/// Where things lie, and how much to say.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArgs {
    /// Put configuration, sockets and state below this directory
    #[arg(long, value_name = "DIR", env = "PORTMASTER_ROOT")]
    pub root: Option<PathBuf>,
    /// Configuration [default: /etc/portmaster]
    #[arg(long, value_name = "DIR", env = "PORTMASTER_CONFIG_DIR")]
    pub config_dir: Option<PathBuf>,
    /// Sockets [default: /run/portmaster]
    #[arg(long, value_name = "DIR", env = "PORTMASTER_RUNTIME_DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// State, with one directory for each service [default: /var/lib/portmaster]
    #[arg(long, value_name = "DIR", env = "PORTMASTER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Only check the configuration; ends with 64 where it is wrong
    #[arg(long)]
    pub check_config: bool,
    /// What to log, as in `info,interceptor=debug`
    #[arg(long, value_name = "FILTER", env = "PORTMASTER_LOG", default_value = "info", value_parser = log_filter)]
    pub log: String,
}

/// Refused here, as all usage is, and not when the service starts.
fn log_filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned())
}
