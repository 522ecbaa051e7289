//! The state on disk: read at the start, written whole to a second file that then takes the first one's
//! place, so that a crash leaves the old state or the new one. The archive lies beside it; of its bytes those
//! count that the state knows, and they are on the disk before it is.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::scalars::At;
use super::world::State;
use super::{Sandbox, SandboxError};

/// The shortest time between two saves.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// Of a large state at most one part in this many of the time goes into saving it.
const SAVE_SHARE: u32 = 5;

/// Reads the state and finds its archive; a file that does not exist is an empty state.
///
/// # Errors
/// When the file cannot be read, or is not a state, or its archive cannot be used.
pub fn load(path: &Path, now: At) -> Result<State, SandboxError> {
    let mut state: State = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|source| SandboxError::StateUnreadable { path: path.to_owned(), source })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
        Err(source) => return Err(SandboxError::ReadFile { path: path.to_owned(), source }),
    };
    state.used_keys.date(now);
    let archive = beside(path, ".archive");
    match state.archive.find(archive.clone()) {
        Ok(()) => Ok(state),
        Err(source) => Err(SandboxError::Archive { path: archive, source }),
    }
}

/// Saves what changes, until `stop`; never leaves a save half done, for the last one uses the same temporary
/// file. A save that fails is tried again with the next one.
pub async fn keep_saving(sandbox: Arc<Sandbox>, path: PathBuf, stop: CancellationToken) {
    let mut pause = SAVE_INTERVAL;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let begun = Instant::now();
        let Some(snapshot) = snapshot(&sandbox) else { continue };
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&target, &snapshot)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(path = %path.display(), "could not save the state, trying again");
            sandbox.world().dirty = true;
        }
        pause = SAVE_INTERVAL.max(begun.elapsed() * SAVE_SHARE);
    }
}

/// Saves a world that is closed, for the last time.
///
/// # Errors
/// When the file cannot be written.
pub fn save_last(sandbox: &Sandbox, path: &Path) -> Result<(), SandboxError> {
    sandbox.world().dirty = true;
    let Some(snapshot) = snapshot(sandbox) else { return Ok(()) };
    write(path, &snapshot).map_err(|source| SandboxError::WriteState { path: path.to_owned(), source })
}

/// The state as it is to be on the disk, and the archive that it is about.
struct Snapshot {
    bytes: Vec<u8>,
    archive: Option<Arc<File>>,
}

fn snapshot(sandbox: &Sandbox) -> Option<Snapshot> {
    let mut world = sandbox.world();
    let changed = std::mem::take(&mut world.dirty);
    changed.then(|| Snapshot {
        bytes: serde_json::to_vec(&world.state).expect("string keys and no failing parts"),
        archive: world.state.archive.file(),
    })
}

fn write(path: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    if let Some(archive) = &snapshot.archive {
        archive.sync_data()?;
    }
    let temporary = beside(path, ".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&snapshot.bytes)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
