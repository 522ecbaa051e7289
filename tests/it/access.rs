//! Who may do what: nobody without a good key, each key only in its own project and within its scopes.

use crate::{
    support::rest::{Api, order},
    world::World,
};
use payoutd::api::auth::Scope;
use reqwest::Method;
use serde_json::json;

/// Every route, with a payout in its path.
fn routes(id: &str) -> Vec<(Method, String, Scope)> {
    payoutd::api::routes::ALL
        .iter()
        .map(|route| (route.method.clone(), route.path.replace("{payout}", id), route.scope))
        .collect()
}

#[tokio::test]
async fn nobody_without_a_good_key_gets_anywhere() {
    let world = World::open().await;
    let api = world.caller();
    let id = api.create(&order("tok_success")).await;
    let key = world.keys["caller"].clone();
    let (other_secret, own_id) = (&world.keys["approver"], key.split('_').nth(1).unwrap());
    let mixed = format!("pk_{own_id}_{}", other_secret.splitn(3, '_').nth(2).unwrap());
    let mut wrong = vec![
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Basic {key}")),
        Some(key.clone()),
        Some(format!("Bearer {key}x")),
        Some(format!("Bearer {}", &key[..key.len() - 1])),
        Some(format!("Bearer {mixed}")),
        Some(format!("Bearer {}", world.keys["homeless"])),
        Some(format!("Bearer pk_0000000000000000_{}", "A".repeat(43))),
    ];
    wrong.dedup();
    let routes = routes(&id);
    assert_eq!(routes.len(), 9);
    let mut texts = std::collections::BTreeSet::new();
    for (method, path, _) in &routes {
        for authorization in &wrong {
            let mut request = api.request(method.clone(), path);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = api.send(request).await;
            assert_eq!(answer.problem(), (401, "unauthenticated", ""), "{method} {path} {authorization:?}");
            texts.insert(answer.text);
        }
    }
    assert_eq!(texts.len(), 1, "a refusal does not tell what was wrong: {texts:?}");
    let hidden = api.send(api.request(Method::GET, "/v1/nothing")).await;
    assert_eq!(hidden.status, 401, "not even which paths exist");
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(payout["version"], json!(api.history(&id).await.len()), "nobody changed anything");
}

#[tokio::test]
async fn each_scope_opens_its_own_routes_and_no_other() {
    let world = World::open().await;
    let id = world.caller().create(&order("tok_success")).await;
    let keys: [(&str, &[Scope]); 5] = [
        ("caller", &[Scope::Read, Scope::Write]),
        ("approver", &[Scope::Read, Scope::Approve]),
        ("operator", &[Scope::Operate]),
        ("owner", &Scope::ALL),
        ("nobody", &[]),
    ];
    let mut refused = 0;
    for (name, scopes) in keys {
        let api = world.api(name);
        for (method, path, scope) in routes(&id) {
            let request = api.request(method.clone(), &path).bearer_auth(&world.keys[name]);
            let answer = api.send(request).await;
            let missing = (answer.status, answer.code()) == (403, "missing_scope");
            assert_eq!(missing, !scopes.contains(&scope), "{name}: {method} {path}: {}", answer.text);
            assert!(answer.status < 500);
            if missing {
                refused += 1;
                assert_eq!(answer.body["required_scope"], scope.code());
            }
        }
    }
    assert!(refused > 20);
}

#[tokio::test]
async fn another_projects_payouts_do_not_exist() {
    let world = World::open().await;
    let (api, stranger) = (world.caller(), world.api("stranger"));
    let id = api.create(&order("tok_success")).await;
    let before = api.wait_status(&id, "succeeded").await;
    for path in [format!("/v1/payouts/{id}"), format!("/v1/payouts/{id}/history")] {
        assert_eq!(stranger.get(&path).await.problem(), (404, "no_such_payout", ""));
    }
    for action in ["cancel", "approve", "reject"] {
        assert_eq!(stranger.act(&id, action).await.problem(), (404, "no_such_payout", ""), "{action}");
    }
    let listed = stranger.get("/v1/payouts").await;
    assert_eq!(listed.body["data"], json!([]));
    assert_eq!(api.payout(&id).await, before);
    // One project's keys and references are no matter of another's.
    let mut order = order("tok_success");
    order["reference"] = json!("shared-1");
    let ours = api.create_with_key("shared-key", &order).await;
    let theirs = stranger.create_with_key("shared-key", &order).await;
    assert_eq!((ours.status, theirs.status), (201, 201));
    assert_ne!(ours.id(), theirs.id());
}

#[tokio::test]
async fn a_revoked_key_is_no_key_at_once() {
    let world = World::open().await;
    let api = world.api("second_caller");
    api.create(&order("tok_success")).await;
    let key = world.keys["second_caller"].clone();
    let mut db = world.pool.acquire().await.unwrap();
    assert!(payoutd::store::api_keys::revoke(&mut db, key.split('_').nth(1).unwrap()).await.unwrap());
    let refused = Api::new(format!("http://{}", world.running().api), &key).get("/v1/payouts").await;
    assert_eq!(refused.problem(), (401, "unauthenticated", ""));
}
