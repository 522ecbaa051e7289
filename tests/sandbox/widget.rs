//! The recipient's side: what a public token permits, and the page.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{World, assert_error, until};
use crate::tokens::{info, public_token, tokenized};

const TOKENIZE: &str = "/_sandbox/widget/tokenize";
const BROWSER: &str = "/cds/v1/tokenize/card";

async fn fill_in(world: &World, form: &Value) -> (u16, Value) {
    world.post(TOKENIZE, &[], form.to_string().into_bytes()).await
}

async fn browse(world: &World, public_token: &str, body: &Value) -> (u16, Value) {
    world.post(BROWSER, &[("X-PUBLIC-TOKEN", public_token)], body.to_string().into_bytes()).await
}

#[tokio::test]
async fn a_public_token_is_good_for_one_card() {
    let world = World::open().await;
    let public = public_token(&world, "shop").await;
    assert_eq!(info(&world, "shop", "public_token", &public).await["is_active"], true);

    // What cannot be read costs nothing.
    for card in [json!({ "number": "4242" }), json!({}), json!(["4242424242424242"]), json!(null)] {
        let (status, answer) = fill_in(&world, &json!({ "public_token": public, "card": card })).await;
        assert_error(status, &answer, 400, "invalid_request");
    }
    let form = json!({ "public_token": public, "card": { "number": "4242424242424242" }, "as": "token" });
    let (status, answer) = fill_in(&world, &form).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["brand"], &answer["last4"]), (&json!("visa"), &json!("4242")));
    assert!(answer["token"].as_str().unwrap().len() == 64 && answer.get("number_hash").is_none());

    for (status, answer) in
        [fill_in(&world, &form).await, browse(&world, &public, &json!({ "card": form["card"] })).await]
    {
        assert_error(status, &answer, 403, "authorization_error");
        assert_eq!(answer["error"]["description"], "The public token has been used");
    }
    assert_eq!(info(&world, "shop", "public_token", &public).await["is_active"], false);
    // Nothing of this is a call of the API.
    let calls = world.get("/_sandbox/ledger").await["totals"]["calls"].clone();
    assert_eq!(calls, json!({ "token": 1, "token/info": 2 }));
}

#[tokio::test]
async fn a_race_has_one_winner() {
    let world = World::open().await;
    let public = public_token(&world, "shop").await;
    let form = json!({ "public_token": public, "card": { "number": "4242424242424242" } });
    let (a, b, c) = tokio::join!(fill_in(&world, &form), fill_in(&world, &form), fill_in(&world, &form));
    let won = [a, b, c].iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn only_a_fresh_public_token_of_ours_permits_anything() {
    let world = World::open().await;
    let acquiring = json!({ "acquiring_widget": { "session_id": "ps_1" } });
    let (_, answer) = world.signed("shop", "/api/v1/token", &acquiring, None).await;
    let acquiring = answer["public_token"].as_str().unwrap().to_owned();
    let hash = tokenized(&world, "4242424242424242", "hash").await;
    for public in ["", "tok_success", &"0".repeat(64), &hash, &acquiring] {
        let form = json!({ "public_token": public, "card": { "number": "4242424242424242" } });
        let (status, answer) = fill_in(&world, &form).await;
        assert_error(status, &answer, 403, "authorization_error");
    }
    let bare = json!({ "card": { "number": "4242424242424242" } });
    let (status, answer) = world.post(BROWSER, &[], bare.to_string().into_bytes()).await;
    assert_error(status, &answer, 403, "authorization_error");
}

#[tokio::test]
async fn a_public_token_ends_on_the_accelerated_clock() {
    // A day in three seconds: time enough to see it alive on a busy machine.
    let world = World::open_with(|settings| settings.timing.clock_factor = 28_800.0).await;
    let public = public_token(&world, "shop").await;
    let life = info(&world, "shop", "public_token", &public).await;
    assert_eq!((&life["is_active"], &life["type"]), (&json!(true), &json!("public_token")));
    until("the end of the public token", || async {
        let life = info(&world, "shop", "public_token", &public).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        (life["is_active"] == false).then_some(())
    })
    .await;
    let form = json!({ "public_token": public, "card": { "number": "4242424242424242" } });
    let (status, answer) = fill_in(&world, &form).await;
    assert_error(status, &answer, 403, "authorization_error");
    assert_eq!(answer["error"]["description"], "The public token has expired");
}

#[tokio::test]
async fn browsers_have_an_end_point_of_their_own() {
    let world = World::open().await;
    let public = public_token(&world, "shop").await;
    let body = json!({ "card": { "number": "5555555555554444", "expiration_month": "12",
        "expiration_year": "2099", "security_code": "123" } });
    let (status, answer) = browse(&world, &public, &body).await;
    assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{answer}");
    let token = answer["data"]["token"].as_str().unwrap();
    let (_, answer) = world
        .signed(
            "shop",
            "/api/v1/token/info",
            &json!({ "type": "card",
        "card": { "type": "tokenized_card", "tokenized_card": { "token": token } } }),
            None,
        )
        .await;
    assert_eq!((&answer["info"]["brand"], &answer["info"]["last4"]), (&json!("mastercard"), &json!("4444")));

    let preflight = world.http.request(reqwest::Method::OPTIONS, format!("{}{BROWSER}", world.base));
    let preflight = preflight.header("Origin", "https://shop.example").send().await.unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    assert_eq!(preflight.headers()["access-control-allow-headers"], "content-type, x-public-token");
    let huge = json!({ "card": { "number": "4".repeat(20_000) } });
    let (status, answer) = browse(&world, &public, &huge).await;
    assert_error(status, &answer, 400, "invalid_request");
}

#[tokio::test]
async fn the_page_is_closed_without_a_public_token_and_shows_nothing_as_markup() {
    let world = World::open().await;
    let page = |query: String| {
        let url = format!("{}/_sandbox/widget{query}", world.base);
        let http = world.http.clone();
        async move { http.get(url).send().await.unwrap() }
    };
    let response = page(String::new()).await;
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"));
    let text = response.text().await.unwrap();
    assert!(text.contains("data-state=\"closed\"") && text.contains("POST /api/v1/token"));
    assert!(text.contains("This is a fake"));

    let public = public_token(&world, "shop").await;
    let text = page(format!("?public_token={public}")).await.text().await.unwrap();
    assert!(text.contains("data-state=\"ready\"") && text.contains(&format!("value=\"{public}\"")));
    let form = json!({ "public_token": public, "card": { "number": "4242424242424242" } });
    assert_eq!(fill_in(&world, &form).await.0, 200);
    let text = page(format!("?public_token={public}")).await.text().await.unwrap();
    assert!(text.contains("data-state=\"closed\"") && text.contains("The public token has been used"));

    let text = page("?public_token=%22%3E%3Cimg%20src%3Dx%3E".to_owned()).await.text().await.unwrap();
    assert!(!text.contains("<img") && text.contains("&quot;&gt;&lt;img src=x&gt;"));
}
