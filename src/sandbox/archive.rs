//! Where sessions go that have left memory: a file that only grows, one JSON line for each, and an index that
//! stays small however long the file gets. Does not decide who leaves; that is `sessions`' business.
//!
//! Sessions leave in the order of their ids, nearly all of them; those lines form blocks, and the index knows
//! the blocks only. A session that leaves late (it was still waiting for something) or once more (it had been
//! brought back) is a stray: the index knows the place of its line, which supersedes any line in a block.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::scalars::SessionId;
use super::world::Record;

/// A block is full with this many lines, or this many bytes: looking one session up reads one block.
const LINES_PER_BLOCK: u32 = 32;
const BLOCK_BYTES: u64 = 128 * 1024;
/// One append stops after the line that fills this many bytes, for it happens under the world's lock.
const APPEND_BYTES: usize = 512 * 1024;
/// How every line begins; the id follows.
const LINE_HEAD: &[u8] = b"{\"session\":{\"id\":\"";

/// Bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    offset: u64,
    length: u64,
}

impl Place {
    fn end(self) -> u64 {
        self.offset + self.length
    }
}

/// Lines side by side, ascending by id.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Block {
    first: SessionId,
    pub last: SessionId,
    pub place: Place,
    lines: u32,
}

impl Block {
    fn takes(&self, next: Place) -> bool {
        self.lines < LINES_PER_BLOCK && self.place.length < BLOCK_BYTES && self.place.end() == next.offset
    }
}

/// The file with its index. The index is a part of the saved state; what the file holds beyond it was
/// appended after the save and is in the saved state otherwise.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Archive {
    /// Bytes of the file that count.
    length: u64,
    /// Ascending by id, without overlap.
    blocks: Vec<Block>,
    strays: BTreeMap<SessionId, Place>,
    /// Where the file is to be; none makes one without a name.
    #[serde(skip)]
    path: Option<PathBuf>,
    /// Made when it is needed first.
    #[serde(skip)]
    file: Option<Arc<File>>,
}

impl Archive {
    /// Finds the file at `path` that the index is about, and cuts off what the index does not know.
    ///
    /// # Errors
    /// When the file cannot be opened, or holds less than the index says.
    pub fn find(&mut self, path: PathBuf) -> io::Result<()> {
        if self.length > 0 {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            if file.metadata()?.len() < self.length {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "shorter than the state says"));
            }
            file.set_len(self.length)?;
            self.file = Some(Arc::new(file));
        }
        self.path = Some(path);
        Ok(())
    }

    /// The file, if there is one yet. Lines that the index knows never change, so they can be read without
    /// the world's lock.
    #[must_use]
    pub fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// Appends these records, as many of them as fit into one append, and says how many that were. They must
    /// be ascending by id. After an error the archive is as it was.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn append(&mut self, records: &[&Record]) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(records.len());
        for record in records {
            let begin = bytes.len();
            serde_json::to_writer(&mut bytes, record).map_err(io::Error::from)?;
            // What a caller wrote is kept as written. Outside of strings a line break is any other space, and
            // inside of them JSON has none.
            bytes.iter_mut().skip(begin).filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
            bytes.push(b'\n');
            ends.push(length_of(&bytes));
            if bytes.len() >= APPEND_BYTES {
                break;
            }
        }
        let before = self.length;
        // A write that fails half-way leaves bytes that do not count; the next one begins in the same place.
        self.made()?.write_all_at(&bytes, before)?;
        let mut begin = 0;
        for (record, end) in records.iter().zip(&ends) {
            self.enrol(record.session.id, Place { offset: before + begin, length: end - begin });
            begin = *end;
        }
        self.length = before + begin;
        Ok(ends.len())
    }

    fn made(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let file = match self.path.as_deref() {
                Some(path) => create(path)?,
                None => tempfile::tempfile()?,
            };
            self.file = Some(Arc::new(file));
        }
        Ok(self.file.as_deref().expect("made above"))
    }

    fn enrol(&mut self, id: SessionId, place: Place) {
        match self.blocks.last_mut() {
            Some(block) if id <= block.last => drop(self.strays.insert(id, place)),
            Some(block) if block.takes(place) => {
                block.last = id;
                block.place.length += place.length;
                block.lines += 1;
            }
            Some(_) | None => self.blocks.push(Block { first: id, last: id, place, lines: 1 }),
        }
    }

    /// Reads a session. One that is in memory again may be found here too, as it was.
    ///
    /// # Errors
    /// When the file cannot be read, or is not what it was.
    pub fn read(&self, id: SessionId) -> io::Result<Option<Record>> {
        let in_block = || {
            let block = self.blocks.get(self.blocks.partition_point(|block| block.last < id))?;
            (block.first <= id).then_some(block.place)
        };
        let Some(place) = self.strays.get(&id).copied().or_else(in_block) else { return Ok(None) };
        let Some(file) = &self.file else { return Ok(None) };
        let bytes = read_place(file, place)?;
        let name = id.to_string();
        let is_named =
            |line: &&[u8]| line.strip_prefix(LINE_HEAD).is_some_and(|rest| rest.starts_with(name.as_bytes()));
        lines(&bytes).find(is_named).map(parse).transpose()
    }

    /// Forgets the place of a session that is in memory again.
    pub fn release(&mut self, id: SessionId) {
        self.strays.remove(&id);
    }

    /// The first blocks that have sessions after `after`, and whether there are more of them.
    #[must_use]
    pub fn blocks_after(&self, after: Option<SessionId>, limit: usize) -> (&[Block], bool) {
        let from = after.map_or(0, |after| self.blocks.partition_point(|block| block.last <= after));
        let rest = &self.blocks[from..];
        (&rest[..rest.len().min(limit)], rest.len() > limit)
    }

    /// The strays after `after`, ascending by id.
    pub fn strays_after(&self, after: Option<SessionId>) -> impl Iterator<Item = (&SessionId, &Place)> {
        self.strays.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    #[cfg(test)]
    pub fn length(&self) -> u64 {
        self.length
    }

    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.blocks.len() + self.strays.len()
    }
}

fn create(path: &Path) -> io::Result<File> {
    // What is there belongs to a state that is gone.
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length of bytes in memory fits")
}

/// The bytes of a place.
///
/// # Errors
/// When they cannot be read.
pub fn read_place(file: &File, place: Place) -> io::Result<Vec<u8>> {
    let length = usize::try_from(place.length).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place.offset)?;
    Ok(bytes)
}

/// The lines in the bytes of a place.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Reads a line, all of it or a part.
///
/// # Errors
/// When it is not one of ours.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    serde_json::from_slice(line).map_err(io::Error::from)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
