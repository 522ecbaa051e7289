//! Which names (metadata, idempotency keys) stand for more than one session. Goes over all sessions twice:
//! first it counts by hashes, eight bytes for each time a name is met, then it lists those that were found to
//! be repeated. So a million names cost some megabytes, and only while somebody asks.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::value::RawValue;

use super::scalars::SessionId;

/// Entries that a list shows; the others are counted.
pub const LISTED: usize = 100;

/// A list that shows its first entries and counts all.
#[derive(Debug)]
pub struct Listed<T> {
    pub shown: Vec<T>,
    pub total: u64,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { shown: Vec::new(), total: 0 }
    }
}

impl<T> Listed<T> {
    pub fn push(&mut self, entry: T) {
        self.total += 1;
        if self.shown.len() < LISTED {
            self.shown.push(entry);
        }
    }
}

/// What a session says under a name.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub session: SessionId,
    pub confirmed: bool,
    /// How often money left under this name.
    pub paid: u32,
}

/// A meeting in eight bytes: the upper bits are the name's hash, then one for confirmed, then how often paid.
const PAID: u64 = 0b0111;
const CONFIRMED: u64 = 0b1000;
const HASH: u64 = !(PAID | CONFIRMED);

/// By how many sessions were confirmed, and how often money left.
#[derive(Debug, Default)]
struct Counts {
    distinct: u64,
    confirmed: BTreeMap<u64, u64>,
    paid: BTreeMap<u64, u64>,
    /// Hashes of the names that have more than one of either, ascending.
    repeated: Vec<u64>,
}

/// A name that stands for more than it should. Names are JSON.
#[derive(Debug)]
struct Repeated {
    name: Box<str>,
    sessions: Listed<SessionId>,
    confirmed: u64,
    paid: u64,
}

/// The names of one kind.
#[derive(Debug)]
pub struct Groups {
    /// How the report calls a name.
    title: &'static str,
    hasher: RandomState,
    met: Vec<u64>,
    counts: Counts,
    places: HashMap<u64, usize>,
    listed: Vec<Repeated>,
}

impl Groups {
    #[must_use]
    pub fn new(title: &'static str) -> Self {
        Self {
            title,
            hasher: RandomState::new(),
            met: Vec::new(),
            counts: Counts::default(),
            places: HashMap::new(),
            listed: Vec::new(),
        }
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name) & HASH
    }

    /// The first time over all sessions: counts.
    pub fn count(&mut self, name: &str, said: Said) {
        let hash = self.hash(name);
        let mut left = u64::from(said.paid);
        let confirmed = if said.confirmed { CONFIRMED } else { 0 };
        self.met.push(hash | confirmed | left.min(PAID));
        while left > PAID {
            left -= PAID;
            self.met.push(hash | left.min(PAID));
        }
    }

    /// Between the two times; whether there is anything to list.
    pub fn sum_up(&mut self) -> bool {
        let mut met = std::mem::take(&mut self.met);
        met.sort_unstable();
        for name in met.chunk_by(|a, b| a & HASH == b & HASH) {
            let confirmed: u64 = name.iter().map(|one| u64::from(one & CONFIRMED != 0)).sum();
            let paid: u64 = name.iter().map(|one| one & PAID).sum();
            self.counts.distinct += 1;
            *self.counts.confirmed.entry(confirmed).or_default() += 1;
            *self.counts.paid.entry(paid).or_default() += 1;
            if confirmed > 1 || paid > 1 {
                self.counts.repeated.extend(name.first().map(|one| one & HASH));
            }
        }
        !self.counts.repeated.is_empty()
    }

    /// The second time: lists, those first that are met first.
    pub fn list(&mut self, name: &str, said: Said) {
        let hash = self.hash(name);
        if self.counts.repeated.binary_search(&hash).is_err() {
            return;
        }
        let place = match self.places.get(&hash) {
            Some(place) => *place,
            None if self.listed.len() == LISTED => return,
            None => {
                let sessions = Listed::default();
                self.listed.push(Repeated { name: name.into(), sessions, confirmed: 0, paid: 0 });
                self.places.insert(hash, self.listed.len() - 1);
                self.listed.len() - 1
            }
        };
        let repeated = &mut self.listed[place];
        repeated.sessions.push(said.session);
        repeated.confirmed += u64::from(said.confirmed);
        repeated.paid += u64::from(said.paid);
    }
}

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("distinct", &self.counts.distinct)?;
        map.serialize_entry("confirmed", &self.counts.confirmed)?;
        map.serialize_entry("paid", &self.counts.paid)?;
        map.serialize_entry("more_than_once", &List(self))?;
        map.serialize_entry("more_than_once_total", &self.counts.repeated.len())?;
        map.end()
    }
}

struct List<'a>(&'a Groups);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.listed.len()))?;
        for repeated in &self.0.listed {
            list.serialize_element(&Entry { title: self.0.title, repeated })?;
        }
        list.end()
    }
}

struct Entry<'a> {
    title: &'static str,
    repeated: &'a Repeated,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Repeated { name, sessions, confirmed, paid } = self.repeated;
        let name: &RawValue = serde_json::from_str(name).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.title, name)?;
        map.serialize_entry("sessions", &sessions.shown)?;
        map.serialize_entry("sessions_total", &sessions.total)?;
        map.serialize_entry("confirmed", confirmed)?;
        map.serialize_entry("paid", paid)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Names with what their sessions say: confirmed, and how often paid.
    fn grouped(met: &[(&str, bool, u32)]) -> Value {
        let met: Vec<(&str, Said)> = met
            .iter()
            .map(|(name, confirmed, paid)| {
                (*name, Said { session: SessionId::fresh(), confirmed: *confirmed, paid: *paid })
            })
            .collect();
        let mut groups = Groups::new("key");
        met.iter().for_each(|(name, said)| groups.count(name, *said));
        if groups.sum_up() {
            met.iter().for_each(|(name, said)| groups.list(name, *said));
        }
        serde_json::to_value(groups).unwrap()
    }

    #[test]
    fn what_is_repeated_is_counted_and_listed() {
        let met = [
            ("1", false, 0),
            ("\"once\"", true, 1),
            ("\"again\"", false, 0),
            ("\"again\"", true, 1),
            ("\"twice\"", true, 1),
            ("\"often\"", true, 17),
            ("\"twice\"", true, 1),
        ];
        let groups = grouped(&met);
        assert_eq!(groups["distinct"], 5);
        assert_eq!(groups["confirmed"], json!({ "0": 1, "1": 3, "2": 1 }));
        assert_eq!(groups["paid"], json!({ "0": 1, "1": 2, "2": 1, "17": 1 }));
        let listed = groups["more_than_once"].as_array().unwrap();
        assert_eq!((listed.len(), &groups["more_than_once_total"]), (2, &json!(2)));
        assert_eq!((&listed[0]["key"], &listed[1]["key"]), (&json!("twice"), &json!("often")));
        assert_eq!((&listed[0]["confirmed"], &listed[0]["paid"]), (&json!(2), &json!(2)));
        assert_eq!(listed[0]["sessions"].as_array().unwrap().len(), 2);
        assert_eq!((&listed[1]["paid"], &listed[1]["sessions_total"]), (&json!(17), &json!(1)));
        assert_eq!(grouped(&[])["distinct"], 0);
    }

    #[test]
    fn lists_have_an_end_and_say_so() {
        let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let twice = names.iter().chain(&names).map(|name| (name.as_str(), true, 1));
        let groups = grouped(&twice.collect::<Vec<_>>());
        assert_eq!(groups["more_than_once"].as_array().unwrap().len(), LISTED);
        assert_eq!((&groups["more_than_once_total"], &groups["paid"]), (&json!(300), &json!({ "2": 300 })));
        assert_eq!(groups["more_than_once"][99]["key"], 99);
        let groups = grouped(&[("7", true, 0); 300]);
        assert_eq!(groups["more_than_once"][0]["sessions"].as_array().unwrap().len(), LISTED);
        assert_eq!(groups["more_than_once"][0]["sessions_total"], 300);
    }
}
