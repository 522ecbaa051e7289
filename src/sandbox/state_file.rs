//! The state on disk: read at the start, written whole to a second file that then takes the first one's
//! place, so that a crash leaves the old state or the new one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::world::State;
use super::{Sandbox, SandboxError};

/// The shortest time between two saves.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// Of a large state at most one part in this many of the time goes into saving it.
const SAVE_SHARE: u32 = 5;

/// Reads the state; a file that does not exist is an empty state.
///
/// # Errors
/// When the file cannot be read, or is not a state.
pub fn load(path: &Path) -> Result<State, SandboxError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
        Err(source) => return Err(SandboxError::ReadFile { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&bytes)
        .map_err(|source| SandboxError::StateUnreadable { path: path.to_owned(), source })
}

/// Saves what changes, until `stop`; never leaves a save half done, for the last one uses the same temporary
/// file. A save that fails is tried again with the next one.
pub async fn keep_saving(sandbox: Arc<Sandbox>, path: PathBuf, stop: CancellationToken) {
    let mut pause = SAVE_INTERVAL;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let begun = Instant::now();
        let Some(bytes) = snapshot(&sandbox) else { continue };
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&target, &bytes)).await;
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
    let Some(bytes) = snapshot(sandbox) else { return Ok(()) };
    write(path, &bytes).map_err(|source| SandboxError::WriteState { path: path.to_owned(), source })
}

fn snapshot(sandbox: &Sandbox) -> Option<Vec<u8>> {
    let mut world = sandbox.world();
    let changed = std::mem::take(&mut world.dirty);
    changed.then(|| serde_json::to_vec(&world.state).expect("string keys and no failing parts"))
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}
