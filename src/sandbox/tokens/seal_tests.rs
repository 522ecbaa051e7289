//! The seal: what comes out is what went in, or nothing.

use std::collections::HashSet;

use super::super::numbers::MagicCard;
use super::*;

const NOW: At = At(1_741_083_330_120_000);

fn seal(key: &str) -> Seal {
    Seal::of(&Settings::new(Vec::new(), key.to_owned()))
}

fn face(magic: Magic) -> Face {
    let identity = seal("key").identity("4242424242424242", None);
    Face { magic, bin: 424_242, last4: 42, country: *b"GEO", identity }
}

#[test]
fn a_card_comes_out_as_it_went_in() {
    let seal = seal("key");
    for kind in [Kind::Hash, Kind::Token, Kind::Recurrent] {
        for MagicCard { magic, .. } in MagicCard::all() {
            let token = seal.card(kind, &face(magic), NOW);
            assert!(token.len() == 64 && !token.contains(|c: char| !c.is_ascii_hexdigit()), "{token}");
            let made = At(1_741_083_330_000_000);
            assert_eq!(seal.open(&token), Some(Sealed::Card { kind, face: face(magic), made }));
        }
    }
    for (bin, last4, country) in [(0, 0, *b"AAA"), (999_999, 9999, *b"ZZZ")] {
        let face = Face { bin, last4, country, ..face(Magic::Success) };
        let opened = seal.open(&seal.card(Kind::Hash, &face, At(0)));
        assert_eq!(opened, Some(Sealed::Card { kind: Kind::Hash, face, made: At(0) }));
    }
}

#[test]
fn a_public_token_carries_its_permission() {
    let seal = seal("key");
    for access in [Access { tokenize: true, acquire: false }, Access { tokenize: false, acquire: true }] {
        let Some(Sealed::Public(pass)) = seal.open(&seal.public(access, "shop", NOW)) else {
            panic!("a public token of ours")
        };
        assert_eq!((pass.made, pass.access, pass.ends()), (NOW, access, NOW.after(PUBLIC_LIFE)));
        assert!(pass.project == seal.project("shop") && pass.project != seal.project("other"));
    }
}

#[test]
fn a_token_with_any_digit_changed_is_none_of_ours() {
    let seal = seal("key");
    let public = seal.public(Access { tokenize: true, acquire: true }, "shop", NOW);
    for token in [seal.card(Kind::Recurrent, &face(Magic::Decline), NOW), public] {
        for place in 0..token.len() {
            for digit in "0123456789abcdefA".chars().filter(|digit| !token[place..].starts_with(*digit)) {
                let forged = format!("{}{digit}{}", &token[..place], &token[place + 1..]);
                assert_eq!(seal.open(&forged), None, "{forged}");
            }
        }
        assert_eq!(seal.open(&token[..62]), None);
        assert_eq!(seal.open(&format!("{token}00")), None);
    }
    for other in ["", "tok_success", &"0".repeat(64), &"é".repeat(32)] {
        assert_eq!(seal.open(other), None);
    }
}

#[test]
fn another_key_opens_nothing_and_the_same_key_everything() {
    let token = seal("key").card(Kind::Token, &face(Magic::Success), NOW);
    assert_eq!(seal("other").open(&token), None);
    assert!(seal("key").open(&token).is_some());
    assert_ne!(seal("other").identity("4242424242424242", None), face(Magic::Success).identity);
}

#[test]
fn no_two_tokens_are_the_same_and_none_shows_what_it_says() {
    let seal = seal("key");
    let tokens: HashSet<String> =
        (0..200).map(|_| seal.card(Kind::Hash, &face(Magic::Success), NOW)).collect();
    assert_eq!(tokens.len(), 200);
    // Sixteen kinds of first digit, none of them rare: nothing of the body stands in clear.
    let first: HashSet<char> = tokens.iter().filter_map(|token| token.chars().nth(16)).collect();
    assert!(first.len() > 8, "{first:?}");
}
