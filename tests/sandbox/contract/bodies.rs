//! §1.2: a request's body as a whole.

use serde_json::json;

use super::partner::{Partner, Version, named, token};
use super::shape;
use crate::support::{World, partner_keys};

/// Every session method, and whether it may be asked with nothing.
const METHODS: [(&str, bool); 6] = [
    ("session/create", true),
    ("session/start/payout", false),
    ("session/init/payout", false),
    ("session/confirm", false),
    ("session/cancel", false),
    ("session/status", false),
];

#[tokio::test]
async fn nothing_at_all_comes_in_several_shapes_and_is_enough_where_all_is_optional() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for (method, is_enough) in METHODS {
            for body in ["{}", "[]", "", " { } ", "\n[\t]\r\n"] {
                let answer = partner.signed(method, &[], body.as_bytes()).await;
                if is_enough {
                    assert_eq!(partner.session(&answer)["status"], "created", "{body:?}");
                } else {
                    shape::refusal(&answer, 400, "invalid_request");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_an_invalid_request() {
    let world = World::open().await;
    let bodies: [&[u8]; 22] = [
        b"{",
        b"}",
        b"{]",
        b"nonsense",
        b"null",
        b"true",
        b"17",
        b"\"{}\"",
        b"[{}]",
        b"[\"session_id\"]",
        b"{\"metadata\":1}{}",
        b"{\"metadata\":1},",
        b"{\"metadata\":1,}",
        b"{metadata:1}",
        b"{'metadata':1}",
        b"{\"metadata\":01}",
        b"{\"metadata\":NaN}",
        b"{\"metadata\":\"\n\"}",
        b"{\"metadata\":\"\\x41\"}",
        b"{\"metadata\":\"\xff\"}",
        b"\0{}",
        b"session_id=ps_1",
    ];
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for (method, _) in METHODS {
            for body in bodies {
                let answer = partner.signed(method, &[], body).await;
                shape::refusal(&answer, 400, "invalid_request");
            }
        }
    }
}

#[tokio::test]
async fn the_bytes_count_and_not_how_they_are_written() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    // §1.4: order of keys, white space and escapes do not matter as long as what was signed is what is sent.
    let plain = json!({ "metadata": "Ж/🦀", "amount_details": { "amount": 1, "currency": "rub" } });
    for body in [
        serde_json::to_string(&plain).unwrap(),
        serde_json::to_string_pretty(&plain).unwrap(),
        r#"{"metadata":"\u0416\/\ud83e\udd80","amount_details":{"currency":"rub","amount":1}}"#.to_owned(),
        r#"{"\u006detadata":"Ж/🦀","amount_details":{"currency":"\u0072ub","amount":1}}"#.to_owned(),
    ] {
        let answer = partner.signed("session/create", &[], body.as_bytes()).await;
        let id = partner.session(&answer)["id"].as_str().unwrap().to_owned();
        let start = json!({ "session_id": id, "payout_details": token("tok_success") });
        let session = partner.ok("start/payout", &start).await;
        let payout = partner.payout(&session);
        assert_eq!((&payout["metadata"], &payout["amount_details"]["amount"]), (&json!("Ж/🦀"), &json!(1)));
    }
}

#[tokio::test]
async fn a_content_type_may_name_its_charset() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let signature = partner_keys().sign(b"{}");
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"] {
        let path = "/api/v2/session/create";
        let headers = [
            ("Content-Type", kind),
            ("Accept", "application/json"),
            ("X-SDK-VERSION", "php-1.0"),
            ("X-PARTNER-PROJECT", "shop"),
            ("X-PARTNER-SIGN", signature.as_str()),
        ];
        let answer = crate::raw::answer(partner.address, &crate::raw::post(path, &headers, b"{}")).await;
        partner.session(&answer);
    }
}

/// A signed create whose headers and body are told apart by the caller.
fn framed(body: &[u8], framing: &str, sent: &[u8]) -> Vec<u8> {
    let signature = partner_keys().sign(body);
    let head = format!(
        "POST /api/v2/session/create HTTP/1.1\r\nHost: h\r\nX-PARTNER-PROJECT: shop\r\n\
         X-PARTNER-SIGN: {signature}\r\n{framing}\r\n\r\n"
    );
    [head.as_bytes(), sent].concat()
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_is_signed_without_them() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let framing = "Transfer-Encoding: chunked\r\nConnection: close";
    for sent in ["2\r\n{}\r\n0\r\n\r\n", "1\r\n{\r\n01;a=b\r\n}\r\n0\r\nTrailer: t\r\n\r\n"] {
        let request = framed(b"{}", framing, sent.as_bytes());
        partner.session(&crate::raw::answer(partner.address, &request).await);
    }
}

#[tokio::test]
async fn a_call_that_breaks_off_is_none() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let whole = framed(b"{}", "Content-Length: 2", b"{}");
    for length in [1, 20, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
        let back = crate::raw::throw(partner.address, &whole[..length]).await;
        let (answers, _) = crate::raw::messages(&back);
        assert!(answers.iter().all(|answer| (400..500).contains(&answer.http())), "{answers:?}");
    }
    assert_eq!(world.get("/_sandbox/ledger").await["totals"]["sessions"], 0);
}

#[tokio::test]
async fn calls_may_share_a_connection() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let keep = framed(b"{}", "Content-Length: 2", b"{}");
    let close = framed(b"[]", "Content-Length: 2\r\nConnection: close", b"[]");
    let back = crate::raw::ask(partner.address, &[keep.clone(), keep, close].concat()).await;
    let (answers, left) = crate::raw::messages(&back);
    assert_eq!((answers.len(), left), (3, 0));
    let ids: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| partner.session(answer)["id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_session_id_is_a_string_that_this_project_was_given() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let own = partner.created().await;
        let elsewhere = partner.project("other").created().await;
        let bare = own.trim_start_matches("ps_");
        let unknown = [
            json!(null),
            json!(17),
            json!(true),
            json!([own]),
            json!({ "id": own }),
            json!(""),
            json!("ps_"),
            json!("ps_0"),
            json!("ps_900417"),
            json!(elsewhere),
            json!(own.to_uppercase()),
            json!(format!(" {own}")),
            json!(format!("{own}\0")),
            json!("x".repeat(5000)),
            json!(format!("po_{bare}")),
        ];
        for (method, _) in &METHODS[1..] {
            if *method == "session/init/payout" {
                continue;
            }
            for id in &unknown {
                let mut body = partner.start("", &token("tok_success"));
                body["session_id"] = id.clone();
                // §12, 23: its code is not known; this one is recommended.
                shape::refusal(&partner.call(method, &body).await, 400, "invalid_request");
            }
        }
        assert_eq!(partner.status(&own).await["status"], "created");
        let elsewhere_still = partner.project("other").ok("status", &named(&elsewhere)).await;
        assert_eq!(elsewhere_still["status"], "created");
    }
}
