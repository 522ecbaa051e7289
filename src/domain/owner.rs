//! Whose an API key is. Two keys are not two people: an approval needs to know who is behind them. `store`
//! keeps the names, `api` looks them up and makes the command, `decide` judges. Nothing here knows a key or
//! its secret.

use std::str::FromStr;

/// The longest name of an owner, in characters: a person's or a team's, not a description.
const LONGEST: usize = 100;

/// A person or a team, by name. Written in capitals or not, it is the same one.
#[derive(Clone, Debug)]
pub struct Owner(String);

/// The text is not a name that an owner could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an owner: expected the name of a person or a team, 1 to {LONGEST} characters on one line")]
pub struct BadOwner;

impl Owner {
    /// As it was written, without blanks around it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Owner {
    type Err = BadOwner;

    fn from_str(text: &str) -> Result<Self, BadOwner> {
        let name = text.trim();
        let fits = !name.is_empty() && name.chars().count() <= LONGEST && !name.chars().any(char::is_control);
        if fits { Ok(Self(name.to_owned())) } else { Err(BadOwner) }
    }
}

impl PartialEq for Owner {
    /// By capitals: some letters have two small forms and one large one.
    fn eq(&self, other: &Self) -> bool {
        let capitals = |owner: &Self| owner.0.chars().flat_map(char::to_uppercase).collect::<String>();
        capitals(self) == capitals(other)
    }
}

impl Eq for Owner {}

/// One of the two keys of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The key that created the payout.
    Creator,
    /// The key that approves it.
    Approver,
}

/// Who is behind the key that created a payout and the one that approves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum People {
    /// Both keys have the same owner.
    One,
    /// They have different owners.
    Two,
    /// This key has no owner, so nobody knows.
    Unknown(Party),
}

impl People {
    /// With neither owner known it is the creator's that is missed: another approver would not help.
    #[must_use]
    pub fn behind(creator: Option<&Owner>, approver: Option<&Owner>) -> Self {
        match (creator, approver) {
            (None, _) => Self::Unknown(Party::Creator),
            (Some(_), None) => Self::Unknown(Party::Approver),
            (Some(creator), Some(approver)) if creator == approver => Self::One,
            (Some(_), Some(_)) => Self::Two,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(creator: &str, approver: &str) -> People {
        let owner = |text: &str| text.parse::<Owner>().ok();
        People::behind(owner(creator).as_ref(), owner(approver).as_ref())
    }

    #[test]
    fn one_owner_is_one_person_however_the_name_is_written() {
        for (creator, approver) in [
            ("Anna Berg", "Anna Berg"),
            ("Anna Berg", "  anna BERG\t"),
            ("Søren Œrsted", "SØREN ŒRSTED"),
            ("Анна", "АННА"),
            ("Στέφανος", "ΣΤΈΦΑΝΟΣ"),
        ] {
            assert_eq!(behind(creator, approver), People::One, "{creator:?} and {approver:?}");
            assert_eq!(behind(approver, creator), People::One, "{approver:?} and {creator:?}");
        }
    }

    #[test]
    fn other_names_are_other_people() {
        for (creator, approver) in [("Anna", "Hanna"), ("Anna", "Anna B"), ("Anna Berg", "AnnaBerg")] {
            assert_eq!(behind(creator, approver), People::Two, "{creator:?} and {approver:?}");
        }
    }

    #[test]
    fn a_key_without_an_owner_is_nobodys() {
        assert_eq!(behind("Anna", ""), People::Unknown(Party::Approver));
        assert_eq!(behind("", "Anna"), People::Unknown(Party::Creator));
        assert_eq!(behind("", ""), People::Unknown(Party::Creator), "nobody to be approved by");
    }

    #[test]
    fn names_are_short_texts_on_one_line() {
        assert_eq!(" back office ".parse::<Owner>().unwrap().name(), "back office");
        assert!("ж".repeat(LONGEST).parse::<Owner>().is_ok());
        for text in ["", "  \t", "Anna\nBerg", "\u{a0}", &"x".repeat(LONGEST + 1)] {
            assert_eq!(text.parse::<Owner>(), Err(BadOwner), "{text:?}");
        }
    }
}
