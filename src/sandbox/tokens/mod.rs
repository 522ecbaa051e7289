//! Tokens, hashes and public tokens: how they are made and opened (`seal`), what they say of a card (`face`,
//! `numbers`), what must be remembered of them (`book`), payouts to them (`destination`), the partner's
//! methods about them (`wish`, `desk`), and the recipient's side, which makes them out of card numbers
//! (`widget`, `page`). Card numbers are never kept.

mod book;
mod desk;
pub mod destination;
mod face;
mod numbers;
mod page;
mod seal;
pub mod widget;
pub mod wish;

pub use book::Book;
pub use seal::{Mark, Seal};
