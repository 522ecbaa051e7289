//! The methods about tokens and the wallet, and payouts to cards by every name that they can have.

use serde_json::{Value, json};

use crate::support::{Sink, StateFile, World, assert_error, partner_keys, settings, start_body};

const NUMBER: &str = "4242424242424242";
const METHODS: [&str; 6] =
    ["token", "token/info", "tokenize/elements", "recurrent/status", "recurrent/disable", "wallet/balance"];

async fn call(world: &World, project: &str, method: &str, body: Value) -> (u16, Value) {
    world.signed(project, &format!("/api/v1/{method}"), &body, None).await
}

async fn ok(world: &World, method: &str, body: Value) -> Value {
    let (status, answer) = call(world, "shop", method, body).await;
    assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{answer}");
    answer
}

pub async fn public_token(world: &World, project: &str) -> String {
    let body = json!({ "tokenize_widget": { "access": true, "locale": "en" } });
    let (status, answer) = call(world, project, "token", body).await;
    assert_eq!(status, 200, "{answer}");
    answer["public_token"].as_str().unwrap().to_owned()
}

/// What `token/info` says of a public or recurrent token.
pub async fn info(world: &World, project: &str, kind: &str, token: &str) -> Value {
    let body = json!({ "type": kind, kind: { "token": token } });
    let (status, answer) = call(world, project, "token/info", body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["info"]["token"], token);
    answer["info"].clone()
}

/// What the widget makes of a card number.
pub async fn tokenized(world: &World, number: &str, kind: &str) -> String {
    let public = public_token(world, "shop").await;
    let form = json!({ "public_token": public, "card": { "number": number }, "as": kind });
    let (status, answer) = world.post("/_sandbox/widget/tokenize", &[], form.to_string().into_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    let token = if kind == "hash" { &answer["number_hash"] } else { &answer["token"] };
    token.as_str().unwrap().to_owned()
}

fn by_number(number: &str) -> Value {
    json!({ "type": "card", "card": { "type": "bank_card", "bank_card": { "number": number } } })
}

fn by_hash(hash: &str) -> Value {
    json!({ "type": "card", "card": { "type": "encrypted_card", "encrypted_card": { "number_hash": hash } } })
}

fn by_token(token: &str) -> Value {
    json!({ "type": "card", "card": { "type": "tokenized_card", "tokenized_card": { "token": token } } })
}

fn by_recurrent(token: &str) -> Value {
    json!({ "type": "recurrent", "recurrent": { "token": token } })
}

/// Starts a payout at once.
async fn init(world: &World, project: &str, destination: &Value) -> (u16, Value) {
    let body =
        json!({ "payout_details": destination, "amount_details": { "amount": 100, "currency": "rub" } });
    world.call_as(project, "v2", "init/payout", &body, None).await
}

/// The card of a payout to a destination, as the project is shown it.
async fn card_of(world: &World, project: &str, destination: &Value) -> Value {
    let (status, answer) = init(world, project, destination).await;
    assert_eq!(status, 200, "{answer}");
    answer["session"]["payout_list"][0]["payout_details"]["card"].clone()
}

fn is_offset_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == 25 && text.ends_with("+03:00") && text.as_bytes()[10] == b'T'
}

#[tokio::test]
async fn they_exist_in_version_one_only() {
    let world = World::open().await;
    for method in METHODS {
        let (status, answer) = world.signed("shop", &format!("/api/v2/{method}"), &json!({}), None).await;
        assert_error(status, &answer, 404, "invalid_request");
        let (status, answer) = world.post(&format!("/api/v1/{method}"), &[], b"{}".to_vec()).await;
        assert_error(status, &answer, 401, "identification_error");
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", "AAAA")];
        let (status, answer) = world.post(&format!("/api/v1/{method}"), &headers, b"{}".to_vec()).await;
        assert_error(status, &answer, 401, "authentication_error");
    }
}

#[tokio::test]
async fn each_has_something_that_must_be_said() {
    let world = World::open().await;
    for method in METHODS {
        for body in ["", "{}", "[]", "{\"later\":[1]}", "null", "{", "[1]"] {
            let signature = partner_keys().sign(body.as_bytes());
            let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
            let (status, answer) = world.post(&format!("/api/v1/{method}"), &headers, body.into()).await;
            assert_error(status, &answer, 400, "invalid_request");
        }
    }
    let hash = tokenized(&world, NUMBER, "hash").await;
    let foreign = public_token(&world, "other").await;
    for (method, body) in [
        ("token", json!({ "tokenize_widget": { "access": false } })),
        ("token", json!({ "tokenize_widget": true })),
        ("token", json!({ "self_employed_widget": {} })),
        ("token/info", json!({ "type": "card" })),
        ("token/info", json!({ "type": "card", "card": by_number(NUMBER)["card"] })),
        ("token/info", json!({ "type": "card", "card": by_token(&hash)["card"] })),
        ("token/info", json!({ "type": "public_token", "public_token": { "token": hash } })),
        ("token/info", json!({ "type": "public_token", "public_token": { "token": "0".repeat(64) } })),
        ("token/info", json!({ "type": "public_token", "public_token": { "token": foreign } })),
        ("token/info", json!({ "type": "recurrent_token", "recurrent_token": { "token": hash } })),
        ("token/info", json!({ "type": "wallet" })),
        ("tokenize/elements", json!({ "card": { "number": "4242" } })),
        ("tokenize/elements", json!({ "card": { "number": NUMBER, "expiration_month": "12" } })),
        ("tokenize/elements", json!({ "card": by_hash(&hash)["card"] })),
        ("recurrent/status", json!({ "recurrent": { "token": hash } })),
        ("recurrent/disable", json!({ "recurrent": { "token": "" } })),
        ("wallet/balance", json!({ "request_datetime": "yesterday" })),
    ] {
        let (status, answer) = call(&world, "shop", method, body).await;
        assert_error(status, &answer, 400, "invalid_request");
    }
}

#[tokio::test]
async fn a_token_says_what_card_it_stands_for() {
    let world = World::open().await;
    let hash = tokenized(&world, "5555555555554444", "hash").await;
    let said = ok(&world, "token/info", json!({ "type": "card", "card": by_hash(&hash)["card"] })).await;
    let info = json!({ "number_hash": hash, "brand": "mastercard", "last4": "4444", "country_iso3": "ARM",
        "type": "card" });
    assert_eq!(said["info"], info);
    // A token that someone made up stands for the card that a payout to it would show.
    let body = json!({ "type": "card", "card": by_token("tok_country_GEO_1")["card"] });
    let (status, said) = call(&world, "other", "token/info", body).await;
    assert_eq!((status, &said["info"]["country_iso3"]), (200, &json!("GEO")), "{said}");
    let shown = card_of(&world, "other", &by_token("tok_country_GEO_1")).await;
    assert_eq!((&shown["brand"], &shown["last4"]), (&said["info"]["brand"], &said["info"]["last4"]));
}

#[tokio::test]
async fn elements_are_tokenised_in_either_shape() {
    let world = World::open().await;
    let bank_card = json!({ "number": NUMBER, "expiration_month": "12", "expiration_year": "2099",
        "security_code": "123", "cardholder_name": "ANNA PETROVA" });
    let nested = json!({ "type": "card", "card": { "type": "bank_card", "bank_card": bank_card } });
    let mut cards = Vec::new();
    for body in [nested.clone(), json!({ "card": bank_card })] {
        let answer = ok(&world, "tokenize/elements", body).await;
        let token = answer["token"].as_str().unwrap().to_owned();
        assert!(token.len() == 64 && !token.contains(|c: char| !matches!(c, '0'..='9' | 'a'..='f')));
        let body = json!({ "type": "card", "card": by_token(&token)["card"] });
        let said = ok(&world, "token/info", body).await["info"].clone();
        assert_eq!((&said["token"], &said["last4"]), (&json!(token), &json!("4242")));
        cards.push(card_of(&world, "shop", &by_token(&token)).await);
    }
    assert_eq!(cards[0], cards[1]);
    // A payout to the same number with the same date shows the same card.
    assert_eq!(card_of(&world, "shop", &nested).await, cards[0]);
    assert_ne!(card_of(&world, "shop", &by_number(NUMBER)).await["card_id"], cards[0]["card_id"]);
}

#[tokio::test]
async fn one_card_has_one_id_in_a_project_by_whatever_name() {
    let world = World::open().await;
    let destinations = [
        by_number(NUMBER),
        by_hash(&tokenized(&world, NUMBER, "hash").await),
        by_hash(&tokenized(&world, NUMBER, "hash").await),
        by_token(&tokenized(&world, NUMBER, "token").await),
        by_recurrent(&tokenized(&world, NUMBER, "recurrent").await),
    ];
    let known = card_of(&world, "shop", &destinations[0]).await;
    let elsewhere = card_of(&world, "other", &destinations[0]).await;
    assert_ne!(known["card_id"], elsewhere["card_id"]);
    for destination in &destinations {
        assert_eq!(card_of(&world, "shop", destination).await, known);
        assert_eq!(card_of(&world, "other", destination).await, elsewhere);
    }
    let another = by_hash(&tokenized(&world, "4111111111111111", "hash").await);
    assert_ne!(card_of(&world, "shop", &another).await["card_id"], known["card_id"]);
}

#[tokio::test]
async fn a_token_is_good_in_its_own_place_only() {
    let world = World::open().await;
    let [hash, token, recurrent] = [
        tokenized(&world, NUMBER, "hash").await,
        tokenized(&world, NUMBER, "token").await,
        tokenized(&world, NUMBER, "recurrent").await,
    ];
    let public = public_token(&world, "shop").await;
    for wrong in [
        by_hash(&token),
        by_hash(&recurrent),
        by_hash(&public),
        by_token(&hash),
        by_token(&recurrent),
        by_token(&public),
        by_recurrent(&hash),
        by_recurrent(&token),
        by_recurrent(&public),
    ] {
        let (status, answer) = init(&world, "shop", &wrong).await;
        assert_error(status, &answer, 400, "invalid_request");
    }
    // One digit changed, and it is a string like any other.
    let last = if hash.ends_with('0') { "1" } else { "0" };
    let forged = by_token(&format!("{}{last}", &hash[..63]));
    assert_eq!(init(&world, "shop", &forged).await.0, 200);
}

#[tokio::test]
async fn a_number_tells_its_story_and_so_does_what_is_made_of_it() {
    let world = World::open().await;
    let early = |destination: Value, code: &'static str| {
        let world = &world;
        async move {
            let (status, answer) = init(world, "shop", &destination).await;
            assert_eq!(status, 200, "{answer}");
            let id = answer["session"]["id"].as_str().unwrap();
            let session = world.wait_status(id, "cancelled").await;
            assert_eq!(session["error"]["code"], code);
            world.sink.wait(id, "payment_finished", 1).await;
            assert_eq!(world.sink.types(id), ["payment_finished"]);
        }
    };
    // `tok_decline_early`
    let declined = "4000000000001059";
    early(by_number(declined), "operation_rejected").await;
    early(by_hash(&tokenized(&world, declined, "hash").await), "operation_rejected").await;
    early(by_recurrent(&tokenized(&world, declined, "recurrent").await), "operation_rejected").await;
    // Not a card number at all.
    early(by_number("4242424242424241"), "card_number_does_not_exist").await;
    let hash = tokenized(&world, "4242424242424241", "hash").await;
    early(by_hash(&hash), "card_number_does_not_exist").await;
    let mut expired = by_number(NUMBER);
    expired["card"]["bank_card"]["expiration_month"] = json!("02");
    expired["card"]["bank_card"]["expiration_year"] = json!("24");
    early(expired.clone(), "bank_card_expired").await;
    let token = ok(&world, "tokenize/elements", json!({ "card": expired["card"]["bank_card"] })).await;
    early(by_token(token["token"].as_str().unwrap()), "bank_card_expired").await;
}

#[tokio::test]
async fn a_disabled_recurrent_token_is_paid_to_no_more() {
    let world = World::open().await;
    let token = tokenized(&world, NUMBER, "recurrent").await;
    let named = json!({ "recurrent": { "token": token } });
    let status = ok(&world, "recurrent/status", named.clone()).await["recurrent"].clone();
    assert_eq!((&status["token"], &status["type"]), (&json!(token), &json!("recurrent_token")));
    assert_eq!(status["is_active"], true);
    assert!(is_offset_time(&status["created_at"]) && is_offset_time(&status["finished_at"]));
    assert_eq!(info(&world, "other", "recurrent_token", &token).await, status);

    // Named before it was disabled, started after.
    let body = json!({ "payout_details": by_recurrent(&token),
        "amount_details": { "amount": 5, "currency": "rub" } });
    let drafted = world.ok("create", body).await["id"].as_str().unwrap().to_owned();
    let mut body = start_body(&world.created().await, "");
    body["payout_details"] = by_recurrent(&token);
    let running = world.ok("start/payout", body.clone()).await["id"].as_str().unwrap().to_owned();

    for _ in 0..2 {
        let disabled = ok(&world, "recurrent/disable", named.clone()).await["recurrent"].clone();
        assert_eq!((&disabled["is_active"], &disabled["token"]), (&json!(false), &json!(token)));
        assert!(disabled["finished_at"].as_str().unwrap().starts_with("2000-"));
        assert_eq!(disabled["created_at"], status["created_at"]);
    }
    let (refused, answer) = init(&world, "shop", &by_recurrent(&token)).await;
    assert_error(refused, &answer, 400, "invalid_request");
    let (refused, answer) = init(&world, "other", &by_recurrent(&token)).await;
    assert_error(refused, &answer, 400, "invalid_request");
    world.refused("start/payout", json!({ "session_id": drafted }), 400, "invalid_request").await;
    assert_eq!(world.status(&drafted).await["status"], "created");
    // What runs, runs on; a repeated start hears of the session's state, not of the token's.
    world.refused("start/payout", body, 400, "session_wrong_state").await;
    world.wait_ready(&running).await;
    // Another token of the same card is not concerned, and neither is a made-up one until it is named.
    let fresh = tokenized(&world, NUMBER, "recurrent").await;
    assert_eq!(init(&world, "shop", &by_recurrent(&fresh)).await.0, 200);
    ok(&world, "recurrent/disable", json!({ "recurrent": { "token": "tok_success_7" } })).await;
    assert_eq!(init(&world, "shop", &by_recurrent("tok_success_7")).await.0, 400);
    assert_eq!(init(&world, "shop", &by_token("tok_success_7")).await.0, 200);
}

#[tokio::test]
async fn the_wallet_goes_down_by_a_payout_and_up_by_a_return() {
    let world = World::open_with(|settings| {
        settings.balances.insert("RUB".to_owned(), 500_000);
        settings.balances.insert("EUR".to_owned(), 7);
        settings.timing.settle_delay = std::time::Duration::from_millis(60);
    });
    let world = world.await;
    let asked = json!({ "request_datetime": "2025-03-04T10:15:30+03:00" });
    let wallets = || async { ok(&world, "wallet/balance", asked.clone()).await["wallets"].clone() };
    let before = wallets().await;
    assert_eq!(before[0]["amount_details"], json!({ "amount": 7, "currency": "eur" }));
    assert_eq!(before[1]["amount_details"], json!({ "amount": 500_000, "currency": "rub" }));
    assert_eq!(before.as_array().unwrap().len(), 2);

    let paid = world.confirmed("tok_success_1").await;
    world.wait_status(&paid, "accepted").await;
    let after = wallets().await;
    assert_eq!(after[1]["amount_details"]["amount"], 500_000 - 125_050);
    assert_eq!((&after[0], &after[1]["id"]), (&before[0], &before[1]["id"]));
    assert_ne!(after[0]["id"], after[1]["id"]);
    let (_, others) = call(&world, "other", "wallet/balance", asked.clone()).await;
    assert_eq!(others["wallets"][1]["amount_details"]["amount"], 500_000);
    assert_ne!(others["wallets"][1]["id"], before[1]["id"]);

    let returned = world.confirmed("tok_returned_1").await;
    world.sink.wait(&returned, "payment_finished", 1).await;
    world.sink.wait(&returned, "payment_refunded", 1).await;
    assert_eq!(wallets().await[1]["amount_details"]["amount"], 500_000 - 125_050);
    let money = world.get("/_sandbox/ledger?project=shop").await["totals"]["money"][0].clone();
    assert_eq!((&money["out"], &money["back"]), (&json!(250_100), &json!(125_050)));
}

#[tokio::test]
async fn without_limits_there_are_no_wallets() {
    let world = World::open().await;
    let answer = ok(&world, "wallet/balance", json!({ "request_datetime": "2025-03-04T10:15:30Z" })).await;
    assert_eq!(answer["wallets"], json!([]));
}

#[tokio::test]
async fn calls_are_booked_and_keys_mean_nothing() {
    let world = World::open().await;
    let body = json!({ "tokenize_widget": { "access": true } });
    for _ in 0..2 {
        let (status, answer) = world.signed("shop", "/api/v1/token", &body, Some("once")).await;
        assert_eq!(status, 200, "{answer}");
    }
    call(&world, "shop", "wallet/balance", json!({})).await;
    let totals = world.get("/_sandbox/ledger?project=shop").await["totals"].clone();
    assert_eq!(totals["calls"], json!({ "token": 2, "wallet/balance": 1 }));
    assert_eq!(totals["refusals"], json!({ "invalid_request": 1 }));
    let events = world.get("/_sandbox/ledger/events").await["events"].clone();
    assert_eq!(events[0]["event"]["request"]["method"], "token");
    assert_eq!(events[2]["event"]["request"]["verdict"]["refused"], "invalid_request");
}

#[tokio::test]
async fn tokens_outlive_a_restart_and_numbers_are_nowhere() {
    let file = StateFile::new("tokens");
    let sink = Sink::open().await;
    let mut settings = settings(&sink);
    settings.state_file = Some(file.0.clone());

    let world = World::start(settings.clone(), sink.clone()).await;
    let hash = tokenized(&world, NUMBER, "hash").await;
    let recurrent = tokenized(&world, NUMBER, "recurrent").await;
    let named = json!({ "recurrent": { "token": recurrent } });
    ok(&world, "recurrent/disable", named.clone()).await;
    let known = card_of(&world, "shop", &by_hash(&hash)).await;
    let used = public_token(&world, "shop").await;
    let form = json!({ "public_token": used, "card": { "number": NUMBER } });
    let tokenize = || world.post("/_sandbox/widget/tokenize", &[], form.to_string().into_bytes());
    assert_eq!(tokenize().await.0, 200);
    ok(&world, "tokenize/elements", json!({ "card": { "number": NUMBER } })).await;
    let id = world.ok("create", json!({ "payout_details": by_number(NUMBER) })).await["id"].clone();
    let body = json!({ "session_id": id, "amount_details": { "amount": 5, "currency": "rub" } });
    let mut seen = world.ok("start/payout", body).await.to_string();
    seen.push_str(&world.wait_ready(id.as_str().unwrap()).await.to_string());
    seen.push_str(&world.sink.wait(id.as_str().unwrap(), "ready_to_confirm", 1).await.to_string());
    for page in ["ledger", "ledger/events", &format!("ledger/events?session={}", id.as_str().unwrap())] {
        seen.push_str(&world.get(&format!("/_sandbox/{page}")).await.to_string());
    }
    world.stop().await;
    let state = std::fs::read_to_string(&file.0).unwrap();
    for (what, text) in [("an answer", &seen), ("the state", &state)] {
        assert!(!text.contains(NUMBER), "{what} has the number");
        assert!(!text.contains(&hash) && !text.contains(&recurrent) && !text.contains(&used), "{what}");
    }

    // A state from before there were tokens is read as well.
    let mut old: Value = serde_json::from_str(&state).unwrap();
    let tokens = old.as_object_mut().unwrap().remove("tokens").unwrap();
    assert_eq!(
        (tokens["used"].as_array().unwrap().len(), tokens["disabled"].as_array().unwrap().len()),
        (3, 1)
    );

    let world = World::start(settings.clone(), sink.clone()).await;
    assert_eq!(card_of(&world, "shop", &by_hash(&hash)).await, known);
    assert_eq!(ok(&world, "recurrent/status", named.clone()).await["recurrent"]["is_active"], false);
    let (status, answer) = world.post("/_sandbox/widget/tokenize", &[], form.to_string().into_bytes()).await;
    assert_error(status, &answer, 403, "authorization_error");
    world.stop().await;

    std::fs::write(&file.0, old.to_string()).unwrap();
    let world = World::start(settings, sink).await;
    assert_eq!(ok(&world, "recurrent/status", named).await["recurrent"]["is_active"], true);
}
