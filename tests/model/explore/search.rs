//! Every path, breadth first: all moments that can be reached without a fault, then those that need one,
//! then two. A moment is kept once, with the fewest faults that lead to it, since a path that has used fewer
//! can do all that the others can.

use super::{
    moves::{Moves, Next},
    point::{Point, hash_of},
};
use crate::mutant::Broken;
use std::{collections::BTreeSet, ops::Range};

const NOBODY: u32 = u32::MAX;
const STUCK: Broken = "no way to an end from here, although nothing goes wrong any more";

/// What an exploration found.
#[derive(Debug, Default)]
pub struct Found {
    /// Moments that need this many faults.
    pub moments: Vec<usize>,
    pub transitions: u64,
    /// Most steps of a shortest path.
    pub depth: usize,
    /// The names of the steps that were taken.
    pub steps: BTreeSet<&'static str>,
    pub breach: Option<Breach>,
}

/// A broken promise, with the shortest path of fewest faults to it.
#[derive(Debug)]
pub struct Breach {
    pub broken: Broken,
    pub faults: usize,
    pub path: Vec<Point>,
}

/// Where a promise broke: at this moment, or on a step from it.
#[derive(Debug)]
struct Hit {
    broken: Broken,
    at: u32,
    beyond: Option<Point>,
}

/// All moments so far, numbered in the order of their discovery.
#[derive(Debug)]
pub struct Search<'a> {
    moves: &'a mut Moves,
    points: Vec<Point>,
    parents: Vec<u32>,
    /// Open addressing; its length is a power of two.
    table: Vec<u32>,
    /// Where each moment's calm successors begin, and they.
    begins: Vec<u32>,
    calm: Vec<u32>,
    steps: BTreeSet<&'static str>,
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap()
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap()
}

impl<'a> Search<'a> {
    pub fn new(moves: &'a mut Moves) -> Self {
        let table = vec![NOBODY; 1 << 12];
        let (points, parents, begins, calm) = (vec![], vec![], vec![], vec![]);
        Self { moves, points, parents, table, begins, calm, steps: BTreeSet::new() }
    }

    /// Explores until a promise breaks or every path with that many faults was seen.
    pub fn run(mut self, faults: usize) -> Found {
        let mut found = Found::default();
        if let Err((at_fault, hit)) = self.levels(faults, &mut found) {
            let path = self.path(hit.at, hit.beyond);
            found.breach = Some(Breach { broken: hit.broken, faults: at_fault, path });
        }
        found.depth = self.depth();
        found.steps = std::mem::take(&mut self.steps);
        found
    }

    /// All that can be reached with so many faults.
    pub fn points(mut self, faults: usize) -> Vec<Point> {
        let ended = self.levels(faults, &mut Found::default());
        assert!(ended.is_ok(), "a promise broke");
        self.points
    }

    fn levels(&mut self, faults: usize, found: &mut Found) -> Result<(), (usize, Hit)> {
        let start = self.moves.start();
        self.insert(start, NOBODY);
        let mut first = 0;
        for used in 0..=faults {
            let free = self.close(&mut found.transitions);
            let end = self.points.len();
            found.moments.push(end - first);
            if let Some(hit) = free.or_else(|| self.stuck()) {
                return Err((used, hit));
            }
            let fault = if used < faults { self.fail(first..end, &mut found.transitions) } else { None };
            if let Some(hit) = fault {
                return Err((used + 1, hit));
            }
            first = end;
        }
        Ok(())
    }

    fn seat(&self, point: &Point) -> usize {
        let mask = self.table.len() - 1;
        let mut seat = usize::try_from(hash_of(point) >> 8).unwrap() & mask;
        while self.table[seat] != NOBODY && self.points[index(self.table[seat])] != *point {
            seat = (seat + 1) & mask;
        }
        seat
    }

    /// A moment's number, and whether it is new.
    fn insert(&mut self, point: Point, parent: u32) -> (u32, bool) {
        let seat = self.seat(&point);
        if self.table[seat] != NOBODY {
            return (self.table[seat], false);
        }
        let new = number(self.points.len());
        self.table[seat] = new;
        self.points.push(point);
        self.parents.push(parent);
        if self.points.len() * 2 > self.table.len() {
            self.table = vec![NOBODY; self.table.len() * 2];
            for at in 0..self.points.len() {
                let seat = self.seat(&self.points[at]);
                self.table[seat] = number(at);
            }
        }
        (new, true)
    }

    /// Takes every free step until nothing new is found.
    fn close(&mut self, transitions: &mut u64) -> Option<Hit> {
        let mut next = vec![];
        while self.begins.len() < self.points.len() {
            let at = self.begins.len();
            let point = self.points[at];
            self.begins.push(number(self.calm.len()));
            self.moves.all(&point, false, &mut next);
            *transitions += u64::try_from(next.len()).unwrap();
            if let Some(broken) = self.take(&next, at) {
                return Some(broken);
            }
        }
        None
    }

    /// Lets one thing more go wrong at each of these moments.
    fn fail(&mut self, moments: Range<usize>, transitions: &mut u64) -> Option<Hit> {
        let mut next = vec![];
        for at in moments {
            let point = self.points[at];
            self.moves.all(&point, true, &mut next);
            *transitions += u64::try_from(next.len()).unwrap();
            if let Some(broken) = self.take(&next, at) {
                return Some(broken);
            }
        }
        None
    }

    fn take(&mut self, next: &[Next], at: usize) -> Option<Hit> {
        for step in next {
            // Names are many times the same: looking at some of them is enough.
            if at.is_multiple_of(16) {
                self.steps.insert(step.label.text);
            }
            if let Some(broken) = step.broken {
                return Some(Hit { broken, at: number(at), beyond: Some(step.to) });
            }
            let (to, new) = self.insert(step.to, number(at));
            if new && let Some(broken) = self.moves.judge(&step.to) {
                return Some(Hit { broken, at: to, beyond: None });
            }
            if step.calm && to != number(at) {
                self.calm.push(to);
            }
        }
        None
    }

    /// A moment from which no calm path leads to an end.
    fn stuck(&self) -> Option<Hit> {
        let mut ends: Vec<bool> = self.points.iter().map(|point| self.moves.settled(point)).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for at in (0..ends.len()).rev().filter(|at| *at < self.begins.len()) {
                if !ends[at] && self.calm_from(at).iter().any(|to| ends[index(*to)]) {
                    ends[at] = true;
                    changed = true;
                }
            }
        }
        ends.iter().position(|ends| !ends).map(|at| Hit { broken: STUCK, at: number(at), beyond: None })
    }

    fn calm_from(&self, at: usize) -> &[u32] {
        let end = self.begins.get(at + 1).map_or(self.calm.len(), |end| index(*end));
        &self.calm[index(self.begins[at])..end]
    }

    fn path(&self, last: u32, beyond: Option<Point>) -> Vec<Point> {
        let mut path: Vec<Point> = beyond.into_iter().collect();
        let mut at = last;
        while at != NOBODY {
            path.push(self.points[index(at)]);
            at = self.parents[index(at)];
        }
        path.reverse();
        path
    }

    fn depth(&self) -> usize {
        let mut depths: Vec<u16> = Vec::with_capacity(self.points.len());
        for parent in &self.parents {
            depths.push(if *parent == NOBODY { 0 } else { depths[index(*parent)] + 1 });
        }
        depths.into_iter().max().map_or(0, usize::from)
    }
}
