//! What can go wrong on the wire, where, and to which call: the table of layer L5. *Up* is the side of who
//! answers (for a call of ours Pike, for a webhook payoutd), *down* the side of whoever asks.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    Create,
    Start,
    Confirm,
    Cancel,
    Status,
    /// A webhook of any kind, from Pike to us.
    Webhook,
}

impl Call {
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Start, Self::Confirm, Self::Cancel, Self::Status, Self::Webhook];

    /// What a POST to this path is.
    pub fn of_path(path: &str) -> Option<Self> {
        let ends = [
            ("session/create", Self::Create),
            ("session/start/payout", Self::Start),
            ("session/confirm", Self::Confirm),
            ("session/cancel", Self::Cancel),
            ("session/status", Self::Status),
        ];
        let found = ends.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, call)| call);
        found.or_else(|| path.starts_with("/pike/").then_some(Self::Webhook))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Everything from there on comes a little later, well within every time-out.
    Latency,
    /// What comes from there on comes in pieces, with pauses of any length between them.
    Jitter,
    /// Comes when whoever asked has long given up, and has its effect all the same.
    Late,
    /// The connection to the answering side is closed; the asking side is left waiting.
    DropUp,
    /// The connection to the asking side is closed; the answering side notices nothing.
    DropDown,
    ResetUp,
    ResetDown,
    /// Nothing more passes either way; both connections stay open.
    BlackHole,
    /// One direction is ended properly, the other goes on.
    HalfClose,
    /// A few bytes at a time; a long message takes longer than the time-out.
    Drip,
    /// The same bytes are delivered once more, on a connection of their own.
    Duplicate,
    /// Nobody listens.
    Refused,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Latency,
        Self::Jitter,
        Self::Late,
        Self::DropUp,
        Self::DropDown,
        Self::ResetUp,
        Self::ResetDown,
        Self::BlackHole,
        Self::HalfClose,
        Self::Drip,
        Self::Duplicate,
        Self::Refused,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The connection is there, no byte of the request has passed.
    BeforeRequest,
    /// Half of the request has passed.
    DuringRequest,
    /// All of the request has passed; the answering side may be at work.
    AfterRequest,
    /// The answering side is done and has answered; no byte of it has passed.
    BeforeAnswer,
    /// Half of the answer has passed.
    DuringAnswer,
}

impl Place {
    pub const ALL: [Self; 5] = [
        Self::BeforeRequest,
        Self::DuringRequest,
        Self::AfterRequest,
        Self::BeforeAnswer,
        Self::DuringAnswer,
    ];

    pub fn is_of_the_request(self) -> bool {
        matches!(self, Self::BeforeRequest | Self::DuringRequest | Self::AfterRequest)
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    pub call: Call,
    pub fault: Fault,
    pub place: Place,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} × {:?} × {:?}", self.call, self.fault, self.place)
    }
}

impl Case {
    /// All 360.
    pub fn all() -> Vec<Self> {
        let of_fault = |call, fault| Place::ALL.map(|place| Self { call, fault, place });
        let of_call = |call| Fault::ALL.into_iter().flat_map(move |fault| of_fault(call, fault));
        Call::ALL.into_iter().flat_map(of_call).collect()
    }

    /// Why there is no such case.
    pub fn impossible(self) -> Option<&'static str> {
        match (self.fault, self.place) {
            (
                Fault::Refused,
                Place::DuringRequest | Place::AfterRequest | Place::BeforeAnswer | Place::DuringAnswer,
            ) => Some("a connection is refused before it is one: nothing can have passed on it"),
            (Fault::Drip, Place::AfterRequest) => {
                Some("no byte flows between the request and the answer: the same as before the answer")
            }
            (_, _) => None,
        }
    }
}
