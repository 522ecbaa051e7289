//! The sessions in memory, and whose turn it is to leave it: the youngest ones stay; of the others the quiet
//! ones go, a batch at a time. One that is not quiet when its turn comes is set aside and looked at again
//! when it has become so; nobody ever searches through all of them. Where they go is `archive`'s business.

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::scalars::SessionId;
use super::world::Record;

/// Sessions that leave together at most: one write for all of them, a fraction of a millisecond.
const BATCH: usize = 64;
/// With few sessions to keep, batches are this part of them.
const BATCH_SHARE: usize = 16;
/// After a disk has failed, this many batches of further sessions come before it is tried again.
const BATCHES_OF_PATIENCE: usize = 16;

/// Everything by id; it is saved as the map alone. Each session is in exactly one of the three lists.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sessions {
    records: BTreeMap<SessionId, Record>,
    /// Their turn has not come; oldest first.
    #[serde(skip)]
    queue: VecDeque<SessionId>,
    /// Were not quiet when their turn came.
    #[serde(skip)]
    restless: HashSet<SessionId>,
    /// Were restless and are quiet now.
    #[serde(skip)]
    rested: VecDeque<SessionId>,
    /// How many stay.
    #[serde(skip)]
    keep: usize,
    /// How many more than that there must be before the next batch.
    #[serde(skip)]
    patience: usize,
}

impl Sessions {
    /// Puts the sessions of a loaded state in line.
    pub fn line_up(&mut self, keep: usize) {
        self.keep = keep;
        self.patience = self.batch();
        self.queue = self.records.keys().copied().collect();
    }

    fn batch(&self) -> usize {
        (self.keep / BATCH_SHARE).clamp(1, BATCH)
    }

    #[must_use]
    pub fn get(&self, id: &SessionId) -> Option<&Record> {
        self.records.get(id)
    }

    pub fn get_mut(&mut self, id: &SessionId) -> Option<&mut Record> {
        self.records.get_mut(id)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&SessionId, &Record)> {
        self.records.iter()
    }

    /// Those after `after`, ascending by id.
    pub fn after(&self, after: Option<SessionId>) -> Range<'_, SessionId, Record> {
        self.records.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// Takes a session in, new or back from the archive.
    pub fn enter(&mut self, record: Record) {
        let id = record.session.id;
        self.records.insert(id, record);
        self.queue.push_back(id);
    }

    /// Undoes the latest [`Sessions::enter`].
    pub fn withdraw(&mut self) {
        self.queue.pop_back().map(|id| self.records.remove(&id));
    }

    /// To be told of every session that may have become quiet.
    pub fn look_at(&mut self, id: SessionId) {
        if !self.restless.is_empty() && self.is_quiet(id) && self.restless.remove(&id) {
            self.rested.push_back(id);
        }
    }

    /// A webhook about it is on its way.
    pub fn letter_sent(&mut self, id: SessionId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.letters += 1;
        }
    }

    /// A webhook about it has arrived, or never will.
    pub fn letter_ended(&mut self, id: SessionId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.letters = record.letters.saturating_sub(1);
        }
        self.look_at(id);
    }

    fn is_quiet(&self, id: SessionId) -> bool {
        self.records.get(&id).is_some_and(Record::is_quiet)
    }

    /// Who leaves next, ascending by id; nobody while there is not a batch of them. Whoever asks says what
    /// came of it: [`Sessions::left`] or [`Sessions::stayed`].
    pub fn leavers(&mut self) -> Vec<SessionId> {
        let mut leavers = Vec::new();
        if self.queue.len() + self.rested.len() < self.keep.saturating_add(self.patience) {
            return leavers;
        }
        for _ in 0..self.batch() {
            let Some(id) = self.rested.pop_front().or_else(|| self.queue.pop_front()) else { break };
            if self.is_quiet(id) {
                leavers.push(id);
            } else {
                self.restless.insert(id);
            }
        }
        leavers.sort_unstable();
        leavers
    }

    /// The first `count` of these have left, the others have to wait.
    pub fn left(&mut self, leavers: &[SessionId], count: usize) {
        self.patience = self.batch();
        let (gone, waiting) = leavers.split_at(count.min(leavers.len()));
        for id in gone {
            self.records.remove(id);
        }
        self.rested.extend(waiting);
    }

    /// None of these could leave. They are asked again when some more sessions have come.
    pub fn stayed(&mut self, leavers: &[SessionId]) {
        self.rested.extend(leavers);
        let more = self.batch().saturating_mul(BATCHES_OF_PATIENCE);
        self.patience = (self.queue.len() + self.rested.len()).saturating_sub(self.keep).saturating_add(more);
    }

    /// How many there are, and how many entries the lists have.
    #[cfg(test)]
    pub fn entries(&self) -> (usize, usize) {
        (self.records.len(), self.queue.len() + self.restless.len() + self.rested.len())
    }
}
