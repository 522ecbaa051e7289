//! The pages for people: they are there, load nothing from elsewhere, and list what there is.

use serde_json::json;

use crate::support::{World, assert_error};

#[tokio::test]
async fn the_page_and_what_it_loads() {
    let world = World::open().await;
    let page = world.http.get(format!("{}/_sandbox", world.base)).send().await.unwrap();
    assert_eq!(page.url().path(), "/_sandbox/");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    let text = page.text().await.unwrap();
    assert!(text.contains("<title>Pike sandbox</title>"));
    for (file, kind) in [("console.css", "text/css"), ("console.js", "text/javascript")] {
        assert!(text.contains(&format!("\"{file}\"")));
        let answer = world.http.get(format!("{}/_sandbox/{file}", world.base)).send().await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind));
        let text = answer.text().await.unwrap();
        assert!(!text.contains("http://") && !text.contains("innerHTML"), "{file}");
    }
}

#[tokio::test]
async fn sessions_are_listed_newest_first() {
    let world = World::open().await;
    let first = world.started("tok_success_1").await;
    let second = world.created().await;
    world.wait_ready(&first).await;
    let sessions = world.get("/_sandbox/sessions").await["sessions"].clone();
    assert_eq!((&sessions[0]["id"], &sessions[1]["id"]), (&json!(second), &json!(first)));
    assert_eq!((&sessions[0]["amount"], &sessions[0]["payout_status"]), (&json!(null), &json!(null)));
    let row = &sessions[1];
    assert_eq!((&row["status"], &row["payout_status"]), (&json!("in_progress"), &json!("pending")));
    assert!(row["card"].as_str().unwrap().starts_with("visa "));
    assert_eq!(row["metadata"], json!({ "attempt": "tok_success_1" }));
    for (query, count) in [
        ("status=created", 1),
        ("metadata=success_1", 1),
        ("project=other", 0),
        ("limit=1", 1),
        ("limit=9", 2),
    ] {
        let sessions = world.get(&format!("/_sandbox/sessions?{query}")).await["sessions"].clone();
        assert_eq!(sessions.as_array().unwrap().len(), count, "{query}");
    }
    let shown = world.get(&format!("/_sandbox/sessions/{first}")).await;
    assert_eq!(shown["session"], world.status(&first).await);
    let missing = world.get("/_sandbox/sessions/ps_1").await;
    assert_error(404, &missing, 404, "invalid_request");
    assert_eq!(world.get("/_sandbox/summary").await["sessions"], 2);
    assert_error(400, &world.get("/_sandbox/sessions?limit=x").await, 400, "invalid_request");
}
