//! The desktop's interface `org.portmaster.Policy1`: translates, no more.

use zbus::interface;

use crate::in_force::Board;

/// At its object path.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) board: Board,
}

#[interface(name = "org.portmaster.Policy1")]
impl Interface {
    /// Files that are not in force as they stand: path, and what is wrong with line and remedy.
    async fn list_refused(&self) -> Vec<(String, String)> {
        self.board
            .refused_files()
            .into_iter()
            .map(|file| (file.path, file.error))
            .collect()
    }
}
