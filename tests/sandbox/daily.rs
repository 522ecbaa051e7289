//! The daily report on payouts, of sessions most of which are archived.

use std::collections::HashMap;

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::support::{World, card};

const HEADER: &str = "operationId,transactionDate,finishedAt,typeOfPayment,paymentFast,paymentSessionId,\
    paymentSessionMerchantMetadata,paymentMethodIdentity,product,grossLocalAmount,paymentLocalAmount,\
    feesLocalAmount,currency,receipt\n";

async fn forgetful() -> World {
    World::open_with(|settings| {
        settings.keep_sessions = 4;
        settings.timing.webhook_retry.clear();
    })
    .await
}

/// A payout to the end; its session.
async fn paid(world: &World, token: &str, amount: u64, currency: &str, metadata: Value) -> Value {
    let body = json!({ "payout_details": card(token), "metadata": metadata,
        "amount_details": { "amount": amount, "currency": currency } });
    let id = world.ok("init/payout", body).await["id"].as_str().unwrap().to_owned();
    world.wait_ready(&id).await;
    world.ok("confirm", json!({ "session_id": id })).await;
    world.wait_for(&id, "an end", |session| session["status"] != "in_progress").await
}

/// The body and the file's name.
async fn report(world: &World, query: &str) -> (String, String) {
    let url = format!("{}/_sandbox/reports/payouts.csv?{query}", world.base);
    let response = world.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let name = response.headers()["content-disposition"].to_str().unwrap().to_owned();
    (response.text().await.unwrap(), name)
}

/// The rows by operation.
fn rows(text: &str, delimiter: u8) -> HashMap<String, HashMap<String, String>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let rows = reader.deserialize().map(|row: csv::Result<HashMap<String, String>>| row.unwrap());
    rows.map(|row| (row["operationId"].clone(), row)).collect()
}

fn instant(text: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap()
}

/// `2025-03-04 13:15:31`
fn shown(instant: OffsetDateTime) -> String {
    instant.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap().replace('T', " ")[..19].to_owned()
}

#[tokio::test]
async fn what_was_paid_and_returned_on_a_day() {
    let world = forgetful().await;
    let good = paid(&world, "tok_success_1", 125_050, "rub", json!("wd,\"1\"")).await;
    let yen = paid(&world, "tok_mastercard_1", 110, "JPY", json!({ "a": [1] })).await;
    let dinar = paid(&world, "tok_success_2", 1_250, "KWD", json!(null)).await;
    paid(&world, "tok_decline", 100, "rub", json!("declined")).await;
    let returned = paid(&world, "tok_returned", 5_000, "rub", json!("back")).await;
    let returned = world.wait_for(returned["id"].as_str().unwrap(), "the return", |session| {
        session["payout_list"][0]["refunds"].is_array()
    });
    let returned = returned.await;
    for _ in 0..6 {
        world.created().await;
    }

    let payout = &good["payout_list"][0];
    let day = payout["finished_at"].as_str().unwrap()[..10].to_owned();
    let (text, name) = report(&world, &format!("project=shop&date={day}")).await;
    assert_eq!(name, format!("attachment; filename=\"shop_{day}_{day}.csv\""));
    assert!(text.starts_with(HEADER), "{text}");
    let today = rows(&text, b',');
    assert_eq!(today.len(), 5);
    let row = &today[payout["id"].as_str().unwrap()];
    let last4 = payout["payout_details"]["card"]["last4"].as_str().unwrap();
    for (column, value) in [
        ("transactionDate", shown(instant(&payout["created_at"]))),
        ("finishedAt", shown(instant(&payout["finished_at"]))),
        ("typeOfPayment", "Advice".to_owned()),
        ("paymentFast", "0".to_owned()),
        ("paymentSessionId", good["id"].as_str().unwrap().to_owned()),
        ("paymentSessionMerchantMetadata", r#""wd,\"1\"""#.to_owned()),
        ("paymentMethodIdentity", format!("424242******{last4}")),
        ("product", "new_payouts".to_owned()),
        ("grossLocalAmount", "1263.00".to_owned()),
        ("paymentLocalAmount", "1250.50".to_owned()),
        ("feesLocalAmount", "12.50".to_owned()),
        ("currency", "RUB".to_owned()),
        ("receipt", String::new()),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let money = |id: &Value| {
        let row = &today[id.as_str().unwrap()];
        ["typeOfPayment", "grossLocalAmount", "paymentLocalAmount", "feesLocalAmount", "currency"]
            .map(|column| row[column].as_str())
    };
    assert_eq!(money(&yen["payout_list"][0]["id"]), ["Advice", "111", "110", "1", "JPY"]);
    assert_eq!(money(&dinar["payout_list"][0]["id"]), ["Advice", "1.262", "1.250", "0.012", "KWD"]);
    let payout = &returned["payout_list"][0];
    assert_eq!(money(&payout["id"]), ["Advice", "50.50", "50.00", "0.50", "RUB"]);
    assert_eq!(money(&payout["refunds"][0]["id"]), ["Refund", "50.00", "50.00", "0.00", "RUB"]);
    assert_eq!(report(&world, &format!("project=other&date={day}")).await.0, HEADER);
    assert_eq!(report(&world, "project=shop&date=2020-02-29").await.0, HEADER);
}

#[tokio::test]
async fn the_day_begins_where_the_reader_lives() {
    let world = forgetful().await;
    let session = paid(&world, "tok_success", 100, "rub", json!("m")).await;
    let payout = &session["payout_list"][0];
    let finished = instant(&payout["finished_at"]);
    for (offset, hours) in [("%2B03:00", 3), ("+13:00", 13), ("-11:00", -11)] {
        let there = shown(finished + Duration::hours(hours));
        let day = &there[..10];
        let (text, _) = report(&world, &format!("project=shop&date={day}&offset={offset}&delimiter=;")).await;
        assert_eq!(rows(&text, b';')[payout["id"].as_str().unwrap()]["finishedAt"], there);
        let before = shown(finished + Duration::hours(hours - 24));
        let query = format!("project=shop&date={}&offset={offset}&delimiter=%09", &before[..10]);
        assert_eq!(report(&world, &query).await.0, HEADER.replace(',', "\t"));
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let world = forgetful().await;
    for (query, name) in [
        ("", "project"),
        ("project=nobody&date=2025-03-04", "project"),
        ("project=shop", "date"),
        ("project=shop&date=2025-02-30", "date"),
        ("project=shop&date=04.03.2025", "date"),
        ("project=shop&date=2025-03-04&offset=3", "offset"),
        ("project=shop&date=2025-03-04&offset=%2B15:00", "offset"),
        ("project=shop&date=2025-03-04&delimiter=%22", "delimiter"),
    ] {
        let url = format!("{}/_sandbox/reports/payouts.csv?{query}", world.base);
        let response = world.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(
            (&answer["status"], &answer["error"]["code"]),
            (&json!("error"), &json!("invalid_request"))
        );
        let description = answer["error"]["description"].as_str().unwrap();
        assert!(description.starts_with(&format!("`{name}` must be ")), "{description}");
    }
}
