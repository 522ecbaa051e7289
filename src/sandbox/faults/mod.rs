//! Faults on command. `kind` lists them, `rule` says where and how often one strikes, `book` holds the rules
//! in force and throws their dice, `dress` turns an answer into a faulty one, `lies` changes what a body
//! says, `scenario` reads a file of rules. Decides nothing about sessions: effects are for `calls`.

mod book;
mod dress;
mod kind;
mod lies;
mod rule;
mod scenario;

pub use book::{Book, Occasion, Of, Strike};
pub use dress::{Dressed, Flow, dress};
pub use kind::{Deed, FaultKind, Manner, Point, Seal, Twist, Wait};
pub use lies::{Lie, tell};
pub use rule::Rule;
pub use scenario::Scenario;
