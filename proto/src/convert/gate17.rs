//! Programs, as Gate17 tells them apart.

use std::path::Path;

use verdict::Process;

use crate::gate17::v1::App;

/// Who a stream is for. Connections and their names have to be told of alike, since both go by one circuit.
/// `uid`: the socket's owner, where known.
pub fn app(process: Option<&Process>, uid: Option<u32>) -> App {
    let text = |path: Option<&Path>| {
        path.map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    App {
        device: process.map_or(0, |process| process.executable.device),
        inode: process.map_or(0, |process| process.executable.inode),
        script: text(process.and_then(|process| process.script.as_deref())),
        uid: uid.or(process.map(|process| process.uid)).unwrap_or(u32::MAX),
        path: text(process.and_then(|process| process.executable.path.as_deref())),
    }
}
