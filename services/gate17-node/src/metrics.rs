//! Figures of the node in sum, as OpenMetrics text in a file: for whatever collects them on this host (`textfile` of
//! node_exporter, a script). Nothing in them tells who talks to whom.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use daemon::{
    Paths,
    metrics::{Also, Metric},
    open_metrics::Text,
    status::Status,
};
use proto::common::v1::ServiceState;

const STREAMS: Metric = Metric {
    name: "portmaster.gate17.streams",
    unit: "{stream}",
    description: "Streams that are open",
};
const OPENED: Metric = Metric {
    name: "portmaster.gate17.streams.opened",
    unit: "{stream}",
    description: "Streams that were asked for, by what became of them",
};
const CONNECTIONS: Metric = Metric {
    name: "portmaster.gate17.connections",
    unit: "{connection}",
    description: "Connections of clients and other nodes that are open",
};

/// What is counted plainly, and is a metric's series as well.
const ALSO: [Also; 4] = [
    ("streams_now", STREAMS, &[]),
    ("connections_now", CONNECTIONS, &[]),
    ("streams_opened", OPENED, &[("portmaster.result", "opened")]),
    ("streams_refused", OPENED, &[("portmaster.result", "refused")]),
];

/// In the service's state from now on.
pub fn show(status: &Status) {
    status.show_also(&ALSO);
}

/// Where they are.
pub fn place(paths: &Paths) -> PathBuf {
    // by systemd, in a folder of the node's own
    let folder = env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    folder
        .unwrap_or_else(|| paths.runtime.join("gate17-node"))
        .join("metrics.prom")
}

/// Replaces the file.
///
/// # Errors
/// Where it cannot be written.
pub fn write(place: &Path, state: &ServiceState) -> io::Result<()> {
    let new = place.with_extension("new");
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&new, text(state))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, place)
}

fn text(state: &ServiceState) -> String {
    let mut text = Text::default();
    let problems = u64::try_from(state.problems.len()).unwrap_or(u64::MAX);
    text.gauge("gate17_node_problems", &[], problems);
    text.state("gate17_node", &[], state);
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_openmetrics_for_everybody_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/metrics.prom");
        let state = ServiceState {
            counters: [("streams_now".to_owned(), 3), ("callers".to_owned(), 5)].into(),
            ..ServiceState::default()
        };
        write(&place, &state).unwrap();
        assert_eq!(
            fs::read_to_string(&place).unwrap(),
            "# TYPE gate17_node_callers counter\ngate17_node_callers_total 5\n\
             # TYPE gate17_node_problems gauge\ngate17_node_problems 0\n\
             # TYPE gate17_node_streams gauge\ngate17_node_streams 3\n# EOF\n"
        );
        let mode = fs::metadata(&place).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
