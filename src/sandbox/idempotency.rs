//! The idempotency keys that were used, as far as they still count: what they are about, which calls use one
//! up, how long it is remembered, and how many are. Does not know what a refusal looks like.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ledger::Verdict;
use super::request::Method;
use super::scalars::{At, Digest};
use super::settings::{IdempotencyBurn, IdempotencyScope, Settings};

/// The youngest keys, some 40 MB of them; an older one is forgotten before its time.
pub const KEYS_KEPT: usize = 900_000;
/// Bytes kept of a key's digest: enough that no two keys are ever taken for one.
const KEY_BYTES: usize = 16;
/// Bytes of a key in the saved state: its time and its digest.
const SAVED_BYTES: usize = 8 + KEY_BYTES;
/// The time of keys from a state that kept none.
const UNDATED: At = At(i64::MIN);

/// A key as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    fn of(digest: &Digest) -> Self {
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(&digest.0[..KEY_BYTES]);
        Self(bytes)
    }
}

/// What the settings say of keys.
#[derive(Clone, Copy, Debug)]
pub struct KeyRules {
    scope: IdempotencyScope,
    burn: IdempotencyBurn,
    /// On the accelerated clock.
    lifetime: Duration,
}

impl KeyRules {
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            scope: settings.idempotency_scope,
            burn: settings.idempotency_burn,
            lifetime: settings.timing.scaled(settings.timing.idempotency_lifetime),
        }
    }

    /// The key of a call.
    #[must_use]
    pub fn key(&self, project: &str, method: Method, key: &str) -> Key {
        Key::of(&match self.scope {
            IdempotencyScope::Method => Digest::of_parts(&[project, method.path(), key]),
            IdempotencyScope::Project => Digest::of_parts(&[project, key]),
            IdempotencyScope::Global => Digest::of_parts(&[key]),
        })
    }

    /// Whether a call that ended like this has used its key up.
    #[must_use]
    pub fn is_burnt_by(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Accepted | Verdict::AnswerLost => true,
            Verdict::Refused(_) => self.burn == IdempotencyBurn::Always,
            // It had no effect, not even this one.
            Verdict::Broken => false,
        }
    }
}

/// The keys, oldest first.
#[derive(Debug, Default)]
pub struct UsedKeys {
    known: HashSet<Key>,
    by_age: VecDeque<(At, Key)>,
}

impl UsedKeys {
    /// Whether the key was used in its lifetime. Forgets all whose lifetime has ended.
    pub fn holds(&mut self, key: Key, rules: &KeyRules, now: At) -> bool {
        while self.by_age.front().is_some_and(|(used, _)| used.after(rules.lifetime) <= now) {
            self.forget_oldest();
        }
        self.known.contains(&key)
    }

    /// Remembers a key.
    pub fn use_up(&mut self, key: Key, now: At) {
        if self.known.insert(key) {
            self.by_age.push_back((now, key));
            if self.by_age.len() > KEYS_KEPT {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.by_age.pop_front() {
            self.known.remove(&key);
        }
    }

    /// Gives keys that came without a time this one.
    pub fn date(&mut self, now: At) {
        for (used, _) in self.by_age.iter_mut().take_while(|(used, _)| *used == UNDATED) {
            *used = now;
        }
    }
}

impl Serialize for UsedKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.by_age.len() * SAVED_BYTES);
        for (used, key) in &self.by_age {
            bytes.extend_from_slice(&used.0.to_le_bytes());
            bytes.extend_from_slice(&key.0);
        }
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for UsedKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Saved {
            Packed(String),
            /// How they were saved before they had a lifetime.
            Digests(Vec<Digest>),
        }
        let mut keys = Self::default();
        match Saved::deserialize(deserializer)? {
            Saved::Packed(text) => {
                let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
                let (saved, []) = bytes.as_chunks::<SAVED_BYTES>() else {
                    return Err(D::Error::custom("a used key is cut off"));
                };
                for saved in saved {
                    let (used, key) = saved.split_first_chunk().expect("it is longer");
                    let key = key.try_into().map_err(D::Error::custom)?;
                    keys.use_up(Key(key), At(i64::from_le_bytes(*used)));
                }
            }
            Saved::Digests(digests) => digests.iter().for_each(|key| keys.use_up(Key::of(key), UNDATED)),
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::Code;
    use super::super::request::Request;
    use super::super::scene::Scene;
    use super::*;

    const USED: &[u8] = b"idempotency_key_already_exists";

    /// A call with this key; whether it was refused for the key.
    fn is_used(scene: &mut Scene, method: Method, key: &str) -> bool {
        let answer = scene.call(method, Some(key), Request::default());
        answer.body.windows(USED.len()).any(|part| part == USED)
    }

    #[test]
    fn a_key_lives_its_time_on_the_accelerated_clock() {
        let mut scene = Scene::new(|settings| settings.timing.clock_factor = 3600.0);
        assert!(!is_used(&mut scene, Method::Create, "k"));
        scene.wait(Duration::from_millis(23_999));
        assert!(is_used(&mut scene, Method::Create, "k"));
        // To ask again makes it no younger.
        scene.wait(Duration::from_millis(1));
        assert!(!is_used(&mut scene, Method::Create, "k"));
        assert!(is_used(&mut scene, Method::Create, "k"));
        assert_eq!(scene.world.state.used_keys.by_age.len(), 1);
    }

    #[test]
    fn a_key_is_about_a_method_or_a_project_or_everything() {
        for (scope, of_method, of_project) in [
            (IdempotencyScope::Method, false, false),
            (IdempotencyScope::Project, true, false),
            (IdempotencyScope::Global, true, true),
        ] {
            let mut scene = Scene::new(|settings| settings.idempotency_scope = scope);
            assert!(!is_used(&mut scene, Method::Create, "k"));
            assert!(is_used(&mut scene, Method::Create, "k"));
            assert_eq!(is_used(&mut scene, Method::Status, "k"), of_method, "{scope:?}");
            scene.project = "q";
            assert_eq!(is_used(&mut scene, Method::Create, "k"), of_project, "{scope:?}");
        }
    }

    #[test]
    fn a_refused_call_burns_its_key_or_not() {
        for (burn, burnt) in [(IdempotencyBurn::Always, true), (IdempotencyBurn::Accepted, false)] {
            let mut scene = Scene::new(|settings| settings.idempotency_burn = burn);
            assert!(!is_used(&mut scene, Method::Confirm, "refused"));
            assert_eq!(is_used(&mut scene, Method::Confirm, "refused"), burnt, "{burn:?}");
            assert!(!is_used(&mut scene, Method::Create, "accepted"));
            assert!(is_used(&mut scene, Method::Create, "accepted"));
            let rules = KeyRules { burn, scope: IdempotencyScope::Method, lifetime: Duration::ZERO };
            assert!(rules.is_burnt_by(Verdict::AnswerLost) && !rules.is_burnt_by(Verdict::Broken));
            assert_eq!(rules.is_burnt_by(Verdict::Refused(Code::InvalidRequest)), burnt);
        }
    }

    #[test]
    fn keys_are_capped_and_survive_a_save() {
        let key = |n: usize| Key::of(&Digest::of(&n.to_le_bytes()));
        let rules = KeyRules::of(&Settings::new(Vec::new(), String::new()));
        let mut keys = UsedKeys::default();
        (0..KEYS_KEPT + 2).for_each(|n| keys.use_up(key(n), At(7)));
        assert_eq!((keys.known.len(), keys.by_age.len()), (KEYS_KEPT, KEYS_KEPT));
        let saved = serde_json::to_string(&keys).unwrap();
        let mut keys: UsedKeys = serde_json::from_str(&saved).unwrap();
        assert!(!keys.holds(key(1), &rules, At(8)) && keys.holds(key(2), &rules, At(8)));
        assert!(!keys.holds(key(2), &rules, At(7).after(rules.lifetime)));
        assert!(keys.known.is_empty() && keys.by_age.is_empty());
        for broken in ["\"AAAA\"", "\"!\"", "7"] {
            assert!(serde_json::from_str::<UsedKeys>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn keys_of_an_old_state_count_from_now_on() {
        let old = serde_json::to_string(&[Digest::of_parts(&["p", "session/create", "k"])]).unwrap();
        let mut scene = Scene::new(|_| {});
        scene.now = At(5);
        scene.world.state.used_keys = serde_json::from_str(&old).unwrap();
        scene.world.state.used_keys.date(scene.now);
        assert!(is_used(&mut scene, Method::Create, "k") && !is_used(&mut scene, Method::Create, "l"));
    }
}
