//! Reads through all sessions, archived or in memory, in the order of their ids, a batch at a time. The
//! world's lock is held only while a batch is chosen; the file is read without it. A session is found once,
//! wherever it moves meanwhile, because its id says where in the order it stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use serde::Deserialize;

use super::Sandbox;
use super::archive::{self, Block, Place};
use super::ledger::Tally;
use super::scalars::SessionId;
use super::session::Session;
use super::world::{State, World};

/// Blocks read at once; some hundred kilobytes.
const BLOCKS_AT_ONCE: usize = 4;
/// Sessions taken at once from memory, and strays.
const SESSIONS_AT_ONCE: usize = 128;

/// What lists and reports need of a session. From the archive it is read without looking at the raw events.
#[derive(Debug, Deserialize)]
pub struct Outline {
    pub session: Session,
    #[serde(rename = "page")]
    pub tally: Tally,
}

/// A reader, and where it stands.
#[derive(Debug)]
pub struct Scan {
    project: Option<Box<str>>,
    after: Option<SessionId>,
    at_end: bool,
}

/// A batch, chosen but not read: everything with an id in the range `after < id <= upto`.
struct Batch {
    file: Option<Arc<File>>,
    blocks: Vec<Block>,
    strays: Vec<Place>,
    in_memory: Vec<Outline>,
    /// In memory, whatever the archive says of them; they are in `in_memory` if they are asked for.
    present: Vec<SessionId>,
    after: Option<SessionId>,
    upto: Option<SessionId>,
}

impl Scan {
    /// Starts behind `after`, or with the oldest session; `project` leaves all others out.
    #[must_use]
    pub fn new(project: Option<&str>, after: Option<SessionId>) -> Self {
        Self { project: project.map(Box::from), after, at_end: false }
    }

    /// The next sessions, perhaps none of a batch; `None` at the end. Reads files: not for a thread that has
    /// to answer others.
    ///
    /// # Errors
    /// When the archive cannot be read; nothing was skipped then.
    pub fn next(&mut self, sandbox: &Sandbox) -> io::Result<Option<Vec<Outline>>> {
        if self.at_end {
            return Ok(None);
        }
        let batch = self.choose(&sandbox.world());
        self.take(batch).map(Some)
    }

    #[cfg(test)]
    pub fn next_of(&mut self, world: &World) -> io::Result<Option<Vec<Outline>>> {
        if self.at_end { Ok(None) } else { self.take(self.choose(world)).map(Some) }
    }

    fn take(&mut self, batch: Batch) -> io::Result<Vec<Outline>> {
        let upto = batch.upto;
        let mut outlines = batch.read()?;
        if let Some(project) = self.project.as_deref() {
            outlines.retain(|outline| *outline.session.project == *project);
        }
        match upto {
            Some(upto) => self.after = Some(upto),
            None => self.at_end = true,
        }
        Ok(outlines)
    }

    fn choose(&self, world: &World) -> Batch {
        let State { sessions, archive, .. } = &world.state;
        let after = self.after;
        let (blocks, more) = archive.blocks_after(after, BLOCKS_AT_ONCE);
        let mut upto = blocks.last().map(|block| block.last).filter(|_| more);
        let is_within = |id: SessionId, upto: Option<SessionId>| upto.is_none_or(|upto| id <= upto);

        let mut strays: Vec<_> = archive.strays_after(after).take(SESSIONS_AT_ONCE).collect();
        narrow(&mut upto, strays.get(SESSIONS_AT_ONCE - 1).map(|(id, _)| **id));
        let mut records: Vec<_> = sessions.after(after).take(SESSIONS_AT_ONCE).collect();
        narrow(&mut upto, records.get(SESSIONS_AT_ONCE - 1).map(|(id, _)| **id));
        strays.retain(|(id, _)| is_within(**id, upto));
        records.retain(|(id, _)| is_within(**id, upto));

        let is_asked =
            |session: &Session| self.project.as_ref().is_none_or(|asked| *asked == session.project);
        let asked = records.iter().filter(|(_, record)| is_asked(&record.session));
        Batch {
            file: archive.file(),
            blocks: blocks.to_vec(),
            strays: strays.into_iter().map(|(_, place)| *place).collect(),
            in_memory: asked
                .map(|(_, record)| Outline {
                    session: record.session.clone(),
                    tally: Tally::of(&record.page),
                })
                .collect(),
            present: records.iter().map(|(id, _)| **id).collect(),
            after,
            upto,
        }
    }
}

/// Lets a range end no later than `at`.
fn narrow(upto: &mut Option<SessionId>, at: Option<SessionId>) {
    if let Some(at) = at {
        *upto = Some(upto.map_or(at, |upto| upto.min(at)));
    }
}

impl Batch {
    /// The sessions of the batch, ascending by id. What is younger supersedes what is older: a stray its line
    /// in a block, what is in memory both.
    fn read(self) -> io::Result<Vec<Outline>> {
        let mut found: BTreeMap<SessionId, Outline> = BTreeMap::new();
        if let Some(file) = &self.file {
            for place in self.blocks.iter().map(|block| block.place).chain(self.strays) {
                let bytes = archive::read_place(file, place)?;
                for line in archive::lines(&bytes) {
                    let outline: Outline = archive::parse(line)?;
                    found.insert(outline.session.id, outline);
                }
            }
        }
        for id in &self.present {
            found.remove(id);
        }
        found.extend(self.in_memory.into_iter().map(|outline| (outline.session.id, outline)));
        let is_within = |id: &SessionId| {
            self.after.is_none_or(|after| *id > after) && self.upto.is_none_or(|upto| *id <= upto)
        };
        Ok(found.into_iter().filter(|(id, _)| is_within(id)).map(|(_, outline)| outline).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    fn next(scan: &mut Scan, scene: &Scene) -> Vec<SessionId> {
        let outlines = scan.next_of(&scene.world).unwrap().unwrap();
        outlines.iter().map(|outline| outline.session.id).collect()
    }

    #[test]
    fn everyone_is_met_once_wherever_they_move() {
        let mut scene = Scene::new(|settings| settings.keep_sessions = 300);
        let ids: Vec<_> = (0..2_000).map(|_| scene.create()).collect();
        let mut scan = Scan::new(None, None);
        let mut met = Vec::new();
        let mut batches = 0;
        while !scan.at_end {
            met.extend(next(&mut scan, &scene));
            batches += 1;
            // Some come back before they are met and some after it, and leave again as others come.
            for place in [3, 700, 701, 1_500, 1_999] {
                scene.start(ids[place], "tok_start_refused");
            }
            (0..40).for_each(|_| _ = scene.create());
        }
        assert!(batches > 10 && met.is_sorted());
        assert_eq!(met[..ids.len()], ids);
        let mut met_again = Scan::new(None, Some(ids[1_000]));
        assert_eq!(next(&mut met_again, &scene)[..9], ids[1_001..1_010]);
        let mut nobodys = Scan::new(Some("q"), None);
        assert!(next(&mut nobodys, &scene).is_empty() && !nobodys.at_end);
    }
}
