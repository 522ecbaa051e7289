//! Bytes that nobody should send, to a running sandbox. Nothing is installed to catch a panic: every whole
//! request has a whole answer, no answer is a 5xx, what is JSON has Pike's shape, and in the end a payout
//! goes through as if nothing had been. The seed is printed; PAYOUTD_TEST_SEED repeats it.

mod bytes;
mod documents;
mod maker;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::contract::partner::{Partner, Version, token};
use crate::contract::receiver::Receiver;
use crate::raw;
use crate::support::{Sink, World, settings};
use maker::{Case, Expects, Maker};

/// In every round each kind is tried so many times at once; wrong types more often, there being many fields.
const ROUNDS: usize = 70;
const AT_ONCE: usize = 3;
const WRONG_TYPES_AT_ONCE: usize = 7;

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Accepted,
    Refused,
    /// The connection was closed without a word, which only what is not a whole request deserves.
    Silence,
}

/// A kind of trouble, and what has to have come of it, or else it was not that trouble.
struct Kind {
    name: &'static str,
    make: fn(&mut Maker) -> Case,
    leads_to: &'static [Outcome],
}

impl Kind {
    fn at_once(&self) -> usize {
        if self.name == "wrong types" { WRONG_TYPES_AT_ONCE } else { AT_ONCE }
    }
}

use Outcome::{Accepted, Refused, Silence};

const KINDS: [Kind; 24] = [
    Kind { name: "nothing wrong", make: documents::untouched, leads_to: &[Accepted] },
    Kind { name: "odd request lines", make: bytes::request_line, leads_to: &[Refused] },
    Kind { name: "odd methods and paths", make: bytes::path, leads_to: &[Accepted, Refused] },
    Kind { name: "header soup", make: bytes::header_soup, leads_to: &[Refused] },
    Kind { name: "huge headers", make: bytes::huge_headers, leads_to: &[Refused] },
    Kind { name: "odd partner headers", make: bytes::partner_headers, leads_to: &[Refused] },
    Kind { name: "wrong lengths", make: bytes::wrong_length, leads_to: &[Refused] },
    Kind { name: "chunks", make: bytes::chunks, leads_to: &[Accepted, Refused] },
    Kind { name: "requests cut short", make: bytes::cut_short, leads_to: &[Silence] },
    Kind { name: "pipelines", make: bytes::pipeline, leads_to: &[Accepted] },
    Kind { name: "random bytes", make: bytes::random, leads_to: &[Refused] },
    Kind { name: "flipped bytes", make: bytes::flipped, leads_to: &[Refused] },
    Kind { name: "wrong types", make: documents::wrong_type, leads_to: &[Accepted, Refused] },
    Kind { name: "missing fields", make: documents::missing, leads_to: &[Accepted, Refused] },
    Kind { name: "deep nesting", make: documents::deep, leads_to: &[Accepted, Refused] },
    Kind { name: "lone surrogates", make: documents::surrogates, leads_to: &[Refused] },
    Kind { name: "duplicate keys", make: documents::duplicate, leads_to: &[Accepted] },
    Kind { name: "huge numbers", make: documents::number, leads_to: &[Accepted, Refused] },
    Kind { name: "NUL", make: documents::nul, leads_to: &[Accepted, Refused] },
    Kind { name: "invalid UTF-8", make: documents::not_utf8, leads_to: &[Refused] },
    Kind { name: "broken JSON", make: documents::broken, leads_to: &[Refused] },
    Kind { name: "long strings", make: documents::long, leads_to: &[Accepted, Refused] },
    Kind { name: "long lists", make: documents::wide, leads_to: &[Accepted, Refused] },
    Kind { name: "too much of everything", make: documents::too_large, leads_to: &[Refused] },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_the_sandbox_answers_and_lives() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let partner = Partner::of(&world, Version::V2);
    let mut maker = Maker::new();
    println!("PAYOUTD_TEST_SEED={}", maker.chance.seed);
    let mut counts: BTreeMap<(&str, Outcome), usize> = BTreeMap::new();
    for _ in 0..ROUNDS {
        maker.sessions = vec![partner.created().await, partner.started(&token("tok_success")).await];
        for kind in &KINDS {
            let mut batch = JoinSet::new();
            for _ in 0..kind.at_once() {
                batch.spawn(attempt(partner.address, kind.name, (kind.make)(&mut maker)));
            }
            for outcome in batch.join_all().await {
                *counts.entry((kind.name, outcome)).or_default() += 1;
            }
        }
        assert_healthy(partner.address).await;
    }
    println!("{counts:?}");
    for kind in &KINDS {
        for outcome in kind.leads_to {
            assert!(
                counts.contains_key(&(kind.name, *outcome)),
                "{} never {outcome:?}: {counts:?}",
                kind.name
            );
        }
    }
    let tried: usize = counts.values().sum();
    assert_eq!(tried, ROUNDS * KINDS.iter().map(Kind::at_once).sum::<usize>());
    assert!(maker.has_tried_every_field(), "some field always had its own type");
    assert_goes_on(&world, &receiver).await;
}

/// Sends a case and judges what comes back.
async fn attempt(address: SocketAddr, kind: &'static str, case: Case) -> Outcome {
    let back = match case.expects {
        Expects::Answers(_) => raw::ask(address, &case.bytes).await,
        Expects::Anything => raw::throw(address, &case.bytes).await,
    };
    let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(3000)]).into_owned();
    let told = || format!("{kind}: {}\n----\n{}", show(&case.bytes), show(&back));
    let (answers, left) = raw::messages(&back);
    assert_eq!(left, 0, "half an answer to {}", told());
    if let Expects::Answers(count) = case.expects {
        assert_eq!(answers.len(), count, "not as many answers as requests: {}", told());
    }
    for answer in &answers {
        let http = answer.http();
        assert!((200..500).contains(&http), "{http} for {}", told());
        if answer.all("content-type") == ["application/json"] {
            assert!(!case.is_call || is_pikes(http, &answer.body), "not Pike's: {}", told());
        } else {
            // What HTTP itself turns away never got as far as a call.
            assert!(!matches!(case.expects, Expects::Answers(_)) || !case.is_call, "{}", told());
        }
    }
    match answers.first() {
        None => Silence,
        Some(answer) if answer.http() < 300 => Accepted,
        Some(_) => Refused,
    }
}

#[tokio::test]
async fn a_sandbox_that_broke_would_be_seen() {
    let answer = |status: &str, body: &str| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n");
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let ok = answer("200 OK", "{\"status\":\"ok\",\"session\":{\"id\":\"ps_1\"}}");
    let error = "{\"status\":\"error\",\"error\":{\"code\":\"c\",\"description\":\"d\"}}";
    for (reply, is_fine) in [
        (ok.clone(), true),
        (answer("400 Bad Request", error), true),
        (String::new(), false),
        (ok[..ok.len() - 1].to_owned(), false),
        (answer("500 Internal Server Error", error), false),
        (answer("200 OK", error), false),
        (answer("200 OK", "{\"status\":\"ok\"}"), false),
        (answer("400 Bad Request", "{}"), false),
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned(), false),
        (format!("{ok}{ok}"), false),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replying = reply.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            while raw::parse(&heard, false).is_none() {
                stream.read_buf(&mut heard).await.unwrap();
            }
            stream.write_all(replying.as_bytes()).await.unwrap();
        });
        let case = Case::call(raw::post("/api/v2/session/create", &[], b"{}"));
        let judged = tokio::spawn(attempt(address, "a fake", case)).await;
        assert_eq!(judged.is_ok(), is_fine, "{reply}");
    }
}

/// What every answer of Pike's is, as far as it can be told without a look at what was echoed in it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PikesAnswer {
    status: String,
    session: Option<Named>,
    error: Option<PikesError>,
}

#[derive(serde::Deserialize)]
struct Named {
    id: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PikesError {
    code: String,
    description: String,
}

fn is_pikes(http: u16, body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<PikesAnswer>(body) else { return false };
    match (answer.status.as_str(), answer.session, answer.error) {
        ("ok", Some(session), None) => http == 200 && session.id.starts_with("ps_"),
        ("error", None, Some(error)) => {
            http >= 400 && !error.code.is_empty() && !error.description.is_empty()
        }
        _ => false,
    }
}

async fn assert_healthy(address: SocketAddr) {
    let request = b"GET /_sandbox/health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answer = raw::answer(address, request).await;
    assert_eq!((answer.http(), answer.json()), (200, json!({ "status": "ok" })));
}

/// That an ordinary payout goes through, with its webhooks, and the ledger tells of it. It is one of another
/// project, since the ledger shows of the first whatever metadata there was.
async fn assert_goes_on(world: &World, receiver: &Receiver) {
    for version in Version::BOTH {
        let partner = Partner::of(world, version).project("other");
        let id = partner.confirmed(&token("tok_success")).await;
        let session = partner.wait_final(&id).await;
        assert_eq!(session["status"], "accepted");
        receiver.wait(&id, "payment_finished", 1).await;
        let ledger = world.get("/_sandbox/ledger?project=other").await;
        let line = ledger["sessions"].as_array().unwrap().iter().find(|line| line["id"] == id.as_str());
        assert_eq!(line.unwrap()["paid_times"], 1);
    }
}

/// Metadata that JSON's grammar knows and some of its readers do not.
fn awkward_metadata() -> [(&'static str, String); 5] {
    [
        ("a lone surrogate", "\"\\ud800\"".to_owned()),
        ("a number beyond all", "1e400".to_owned()),
        ("a deep list", format!("{}{}", "[".repeat(5000), "]".repeat(5000))),
        ("a key twice", "{\"a\":1,\"a\":2}".to_owned()),
        ("a NUL", "\"\\u0000\"".to_owned()),
    ]
}

/// A payout with this metadata, if the sandbox takes it.
async fn pay_with(partner: &Partner, metadata: &str) -> bool {
    let body = partner.init(&token("tok_success")).to_string().replace("\"wd-2025-000417\"", metadata);
    let answer = partner.signed("session/init/payout", &[], body.as_bytes()).await;
    assert!(is_pikes(answer.http(), &answer.body) && answer.http() < 500, "{answer:?}");
    answer.http() == 200
}

#[tokio::test]
async fn no_metadata_keeps_a_sandbox_from_starting_again() {
    for (what, metadata) in awkward_metadata() {
        let file = std::env::temp_dir().join(format!("payoutd-fuzz-{}.json", uuid::Uuid::now_v7()));
        let (sink, receiver) = (Sink::open().await, Receiver::open(&[]).await);
        let mut settings = settings(&sink);
        settings.projects[1].webhook_url = receiver.url();
        settings.state_file = Some(file.clone());
        let world = World::start(settings.clone(), sink.clone()).await;
        let partner = Partner::of(&world, Version::V2).project("other");
        pay_with(&partner, &metadata).await;
        let before = partner.created().await;
        world.stop().await;

        let world = World::start(settings, sink).await;
        let partner = Partner::of(&world, Version::V2).project("other");
        assert_eq!(partner.status(&before).await["status"], "created", "{what}");
        world.stop().await;
        std::fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn no_metadata_keeps_the_ledger_from_being_read() {
    let mut unreadable = Vec::new();
    for (what, metadata) in awkward_metadata() {
        let receiver = Receiver::open(&[]).await;
        let world = receiver.world(|_| {}).await;
        let partner = Partner::of(&world, Version::V2);
        pay_with(&partner, &metadata).await;
        let request = b"GET /_sandbox/ledger HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let ledger = raw::answer(partner.address, request).await;
        if let Err(error) = serde_json::from_slice::<Value>(&ledger.body) {
            unreadable.push((what, error));
        }
    }
    assert!(unreadable.is_empty(), "{unreadable:?}");
}

#[tokio::test]
async fn half_a_character_is_no_text() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let partner = Partner::of(&world, Version::V2);
    assert!(!pay_with(&partner, "\"\\ud800\"").await, "nobody can read what was answered");
}

/// Every magic destination, as docs/sandbox.md has them.
const TOKENS: [&str; 17] = [
    "tok_success",
    "tok_mastercard",
    "tok_country_GEO",
    "tok_country_",
    "tok_decline",
    "tok_decline_early",
    "tok_expired",
    "tok_insufficient",
    "tok_start_refused",
    "tok_slow",
    "tok_duplicate",
    "tok_session_error",
    "tok_returned",
    "tok_confirm_lost",
    "tok_cancel_lost",
    "tok_wrong_amount",
    "tok_paid_unasked",
];

#[tokio::test]
async fn no_amount_is_too_large_for_any_story() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|settings| {
        settings.balances.insert("GEL".to_owned(), i64::MAX);
    });
    let world = world.await;
    let partner = Partner::of(&world, Version::V2);
    let mut started = 0;
    for destination in TOKENS {
        for (amount, currency) in [(i64::MAX, "rub"), (i64::MAX, "gel"), (i64::MAX - 1, "rub"), (1, "rub")] {
            let mut body = partner.init(&token(destination));
            body["amount_details"] = json!({ "amount": amount, "currency": currency });
            let answer = partner.call("session/init/payout", &body).await;
            let json = answer.json();
            if answer.http() != 200 {
                // A limit is documented to exist, though not which (§3.5).
                assert!(
                    is_pikes(answer.http(), &answer.body) && answer.http() < 500,
                    "{destination}: {json}"
                );
                continue;
            }
            started += 1;
            let id = json["session"]["id"].as_str().unwrap();
            let body = json!({ "session_id": id });
            let rests = |it: &Value| it["next_action"] == "confirm" || it["status"] != "in_progress";
            let status = async || Some(partner.status(id).await).filter(rests);
            crate::support::until("a rest", status).await;
            drop(partner.call("session/confirm", &body).await);
            partner.wait_final(id).await;
        }
    }
    assert!(started > TOKENS.len(), "{started}");
    assert_goes_on(&world, &receiver).await;
}
