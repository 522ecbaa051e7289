//! Tokens that say all there is to say about themselves, to the sandbox and to nobody else: nothing has to
//! be remembered of them, they outlive a restart, and they work in every project. Encrypted and authenticated
//! under keys that follow from the sandbox's signing key. The card number is not in them.
//!
//! A token is 32 bytes, shown as 64 hex digits: a tag of 8 bytes over the body, which is also where the key
//! stream begins, and 24 bytes of body. Within the body:
//!
//! | bytes | a card's token | a public token |
//! | --- | --- | --- |
//! | 0–2 | kind (4 bits), bin (20 bits) | kind (4 bits), what it allows (20 bits) |
//! | 3–4 | the magic row's own number | from 3 on: when it was made, microseconds (8 bytes) |
//! | 5–6 | last four digits | |
//! | 7–8 | country, to the base of 26 | |
//! | 9–15 | identity: a digest of number and expiry | from 11 on: a digest of the project (8 bytes) |
//! | 16–19 | when it was made, seconds | |
//! | 20–23 | chance | chance |

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use super::super::magic::Magic;
use super::super::scalars::{At, Digest};
use super::super::settings::Settings;
use super::face::{Expiry, Face, Identity};
use super::numbers;

const TAG: usize = 8;
const BODY: usize = 24;
type Body = [u8; BODY];

/// How long a public token is good for.
const PUBLIC_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const LETTERS: u16 = 26;

/// What a card's token is for. Each is good in its own place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `encrypted_card.number_hash`
    Hash,
    /// `tokenized_card.token`
    Token,
    /// `recurrent.token`
    Recurrent,
}

/// What a public token allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub tokenize: bool,
    pub acquire: bool,
}

/// A public token, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    pub made: At,
    pub access: Access,
    /// A digest of the project that asked for it.
    pub project: [u8; 8],
    /// How long it is good for: not part of the token, but of the clock.
    pub life: Duration,
}

impl Pass {
    #[must_use]
    pub fn ends(&self) -> At {
        self.made.after(self.life)
    }
}

/// A token of ours, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    Card { kind: Kind, face: Face, made: At },
    Public(Pass),
}

/// A token as it is remembered when it must be: what was said, not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(u64);

impl Mark {
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Digest::of(token.as_bytes()).0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head)))
    }
}

/// Makes tokens and opens them.
pub struct Seal {
    tag: Hmac<Sha256>,
    stream: Hmac<Sha256>,
    identity: Hmac<Sha256>,
    public_life: Duration,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// The seal of the sandbox with this signing key. Another key does not open what this one has made.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let key = |purpose| {
            let secret = Digest::of_parts(&["payoutd sandbox tokens", purpose, &settings.signing_key_pem]);
            Hmac::new_from_slice(&secret.0).expect("HMAC takes keys of any length")
        };
        Self {
            tag: key("tag"),
            stream: key("stream"),
            identity: key("identity"),
            public_life: settings.timing.scaled(PUBLIC_LIFE),
        }
    }

    /// A new token of a card.
    #[must_use]
    pub fn card(&self, kind: Kind, face: &Face, now: At) -> String {
        let mut body = Vec::with_capacity(BODY);
        let kind = match kind {
            Kind::Hash => 1,
            Kind::Token => 2,
            Kind::Recurrent => 3,
        };
        body.extend_from_slice(&first_bytes(kind, face.bin));
        body.extend_from_slice(&numbers::row_of(face.magic).to_be_bytes());
        body.extend_from_slice(&face.last4.to_be_bytes());
        let letters = face.country.map(|letter| u16::from(letter.to_ascii_uppercase().wrapping_sub(b'A')));
        let country = letters.iter().fold(0, |country, letter| country * LETTERS + letter % LETTERS);
        body.extend_from_slice(&country.to_be_bytes());
        body.extend_from_slice(&face.identity.0);
        let seconds = u32::try_from(now.0 / 1_000_000).unwrap_or(0);
        body.extend_from_slice(&seconds.to_be_bytes());
        self.seal(&body)
    }

    /// A new public token of a project.
    #[must_use]
    pub fn public(&self, access: Access, project: &str, now: At) -> String {
        let mut body = Vec::with_capacity(BODY);
        let allowed = u32::from(access.tokenize) | u32::from(access.acquire) << 1;
        body.extend_from_slice(&first_bytes(4, allowed));
        body.extend_from_slice(&now.0.to_be_bytes());
        body.extend_from_slice(&self.project(project));
        self.seal(&body)
    }

    /// Opens a token; `None` when it is none of ours.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Sealed> {
        let Digest(bytes) = Digest::parse(token)?;
        let (tag, body) = bytes.split_first_chunk::<TAG>()?;
        let body = self.with_stream(tag, body.try_into().ok()?);
        self.tag.clone().chain_update(body).verify_truncated_left(tag).ok()?;
        let (first, rest) = body.split_first_chunk::<3>()?;
        let [high, middle, low] = *first;
        let number = u32::from_be_bytes([0, high & 0x0f, middle, low]);
        let kind = match high >> 4 {
            1 => Kind::Hash,
            2 => Kind::Token,
            3 => Kind::Recurrent,
            4 => return self.open_public(number, rest),
            _ => return None,
        };
        open_card(kind, number, rest)
    }

    fn open_public(&self, allowed: u32, rest: &[u8]) -> Option<Sealed> {
        let (made, rest) = rest.split_first_chunk()?;
        let project = *rest.first_chunk()?;
        let access = Access { tokenize: allowed & 1 != 0, acquire: allowed & 2 != 0 };
        let made = At(i64::from_be_bytes(*made));
        Some(Sealed::Public(Pass { made, access, project, life: self.public_life }))
    }

    /// What all tokens of a card have in common. Without the key it says nothing about the number.
    #[must_use]
    pub fn identity(&self, number: &str, expiry: Option<Expiry>) -> Identity {
        let expiry = expiry.map_or_else(String::new, |expiry| expiry.to_string());
        let digest = self.identity.clone().chain_update(format!("card {number} {expiry}")).finalize();
        Identity(start_of(&digest.into_bytes()))
    }

    /// A project as public tokens name it.
    #[must_use]
    pub fn project(&self, project: &str) -> [u8; 8] {
        let digest = self.identity.clone().chain_update(format!("project {project}")).finalize();
        start_of(&digest.into_bytes())
    }

    /// Fills the body up by chance, so that no two tokens are the same, and closes it.
    fn seal(&self, said: &[u8]) -> String {
        let mut body: Body = start_of(said);
        let chance = Uuid::now_v7();
        for (to, from) in body.iter_mut().skip(said.len()).rev().zip(chance.as_bytes().iter().rev()) {
            *to = *from;
        }
        let tag = self.tag.clone().chain_update(body).finalize().into_bytes();
        let tag: [u8; TAG] = start_of(&tag);
        let mut token = [0; TAG + BODY];
        token[..TAG].copy_from_slice(&tag);
        token[TAG..].copy_from_slice(&self.with_stream(&tag, body));
        Digest(token).to_string()
    }

    /// The body with the key stream laid over it: encrypts, and decrypts.
    fn with_stream(&self, tag: &[u8; TAG], mut body: Body) -> Body {
        let stream = self.stream.clone().chain_update(tag).finalize().into_bytes();
        body.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
        body
    }
}

/// Four bits of kind before twenty bits of number.
fn first_bytes(kind: u32, number: u32) -> [u8; 3] {
    let [_, high, middle, low] = (kind << 20 | number & 0x000f_ffff).to_be_bytes();
    [high, middle, low]
}

/// The first bytes of a text, zeros where it is shorter.
fn start_of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut start = [0; N];
    start.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    start
}

fn open_card(kind: Kind, bin: u32, rest: &[u8]) -> Option<Sealed> {
    let (row, rest) = rest.split_first_chunk()?;
    let (last4, rest) = rest.split_first_chunk()?;
    let (country, rest) = rest.split_first_chunk()?;
    let (identity, rest) = rest.split_first_chunk()?;
    let seconds = rest.first_chunk()?;
    // A row that has been removed since: the card is good, like any unknown one.
    let magic = numbers::by_row(u16::from_be_bytes(*row)).map_or(Magic::Success, |card| card.magic);
    let country = u16::from_be_bytes(*country);
    let letter = |place: u16| b'A' + u8::try_from(country / place % LETTERS).unwrap_or(0);
    let face = Face {
        magic,
        bin,
        last4: u16::from_be_bytes(*last4),
        country: [letter(LETTERS * LETTERS), letter(LETTERS), letter(1)],
        identity: Identity(*identity),
    };
    let made = At(i64::from(u32::from_be_bytes(*seconds)) * 1_000_000);
    Some(Sealed::Card { kind, face, made })
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
