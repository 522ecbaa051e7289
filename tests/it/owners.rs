//! Two keys are not two people: whoever ordered a payout does not approve it with another key of theirs.

use crate::{
    outcomes::{assert_paid, assert_story, assert_unpaid},
    support::rest::{Answer, Api, order_of},
    world::World,
};
use payoutd::{
    api::auth::{self, Scope},
    domain::id::ProjectId,
    store::api_keys::{self, ApiKey},
};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;

/// A key that may order and approve, and whoever holds it.
struct Holder {
    key: String,
    api: Api,
}

impl Holder {
    async fn new(world: &World, owner: Option<&str>) -> Self {
        let scopes = BTreeSet::from([Scope::Read, Scope::Write, Scope::Approve]);
        let (key, secret) = auth::generate(&ProjectId("shop".to_owned()), "desk", &scopes);
        let key = ApiKey { owner: owner.map(|name| name.parse().unwrap()), ..key };
        api_keys::insert(&mut world.pool.acquire().await.unwrap(), &key).await.unwrap();
        let api = Api::new(format!("http://{}", world.running().api), secret.expose_secret());
        Self { key: key.id, api }
    }

    async fn held(&self) -> String {
        let id = self.api.create(&order_of("tok_success", 600_000)).await;
        self.api.wait_status(&id, "on_hold").await;
        id
    }

    async fn approve(&self, id: &str) -> Answer {
        self.api.act(id, "approve").await
    }
}

/// Asks for an approval that must be refused, and changes nothing.
async fn refused(holder: &Holder, id: &str, code: &str) -> String {
    let before = holder.api.payout(id).await;
    let answer = holder.approve(id).await;
    assert_eq!(answer.problem(), (403, code, ""), "{}", answer.text);
    assert_eq!(holder.api.payout(id).await, before);
    answer.body["detail"].as_str().unwrap().to_owned()
}

async fn granted(world: &World, holder: &Holder, id: &str) {
    let answer = holder.approve(id).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let payout = holder.api.wait_status(id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    let history = holder.api.history(id).await;
    let approved = history.iter().find(|entry| entry["reason"] == "approved").unwrap();
    assert_eq!(approved["actor"], holder.key, "the key is what history names");
    assert_story(&holder.api, &payout).await;
}

#[tokio::test]
async fn one_person_with_two_keys_does_not_approve_their_own_payout() {
    let world = World::open().await;
    let anna = Holder::new(&world, Some("Anna Berg")).await;
    let id = anna.held().await;
    for name in ["Anna Berg", "  anna BERG "] {
        let again = Holder::new(&world, Some(name)).await;
        let detail = refused(&again, &id, "own_payout").await;
        assert!(detail.contains("owner"), "{detail}");
    }
    refused(&anna, &id, "own_payout").await;
    assert!(world.pike.seen_on("session/confirm").is_empty());
    granted(&world, &Holder::new(&world, Some("Boris Berg")).await, &id).await;
}

#[tokio::test]
async fn a_revoked_key_is_still_somebodys() {
    let world = World::open().await;
    let anna = Holder::new(&world, Some("Anna")).await;
    let id = anna.held().await;
    assert!(api_keys::revoke(&mut world.pool.acquire().await.unwrap(), &anna.key).await.unwrap());
    refused(&Holder::new(&world, Some("anna")).await, &id, "own_payout").await;
    granted(&world, &Holder::new(&world, Some("Boris")).await, &id).await;
}

#[tokio::test]
async fn keys_without_owners_are_told_apart_as_keys() {
    let world = World::open().await;
    for (creator, approver) in [(None, None), (Some("Anna"), None), (None, Some("Anna"))] {
        let (creator, approver) = (Holder::new(&world, creator).await, Holder::new(&world, approver).await);
        let id = creator.held().await;
        refused(&creator, &id, "own_payout").await;
        granted(&world, &approver, &id).await;
    }
}

#[tokio::test]
async fn where_owners_are_needed_a_key_without_one_approves_nothing() {
    let world = World::with(|setup| setup.set("approvals.need_owner", "true")).await;
    let (anna, nobody) = (Holder::new(&world, Some("Anna")).await, Holder::new(&world, None).await);
    let (boris, nobody_else) = (Holder::new(&world, Some("Boris")).await, Holder::new(&world, None).await);

    let id = anna.held().await;
    let detail = refused(&nobody, &id, "owner_unknown").await;
    assert!(detail.contains("Approve with one") && detail.contains("--owner"), "{detail}");
    refused(&Holder::new(&world, Some("ANNA")).await, &id, "own_payout").await;
    granted(&world, &boris, &id).await;

    let id = nobody.held().await;
    refused(&nobody, &id, "own_payout").await;
    for holder in [&boris, &nobody_else] {
        let detail = refused(holder, &id, "owner_unknown").await;
        assert!(detail.contains("Reject the payout") && detail.contains("--owner"), "{detail}");
    }
    assert_eq!(nobody_else.api.act(&id, "reject").await.status, 200, "what is said to help helps");
    let payout = boris.api.wait_status(&id, "cancelled").await;
    assert_unpaid(&world.ledger().await, &payout);
}

/// No command of ours deletes keys; a hand might.
#[tokio::test]
async fn a_deleted_key_is_nobodys() {
    let world = World::with(|setup| setup.set("approvals.need_owner", "true")).await;
    let (anna, boris) = (Holder::new(&world, Some("Anna")).await, Holder::new(&world, Some("Boris")).await);
    let id = anna.held().await;
    let deleted = sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(&anna.key).execute(&world.pool);
    assert_eq!(deleted.await.unwrap().rows_affected(), 1);
    refused(&boris, &id, "owner_unknown").await;
}

/// The release before says nothing of owners, and goes on making keys until the last process is replaced.
#[tokio::test]
async fn the_table_takes_keys_of_the_release_before_and_no_owner_without_a_name() {
    let world = World::open().await;
    let insert = "INSERT INTO api_keys (id, project_id, name, secret_hash, scopes)
        VALUES ('old', 'shop', 'till', '', '{}')";
    sqlx::query(insert).execute(&world.pool).await.unwrap();
    let mut db = world.pool.acquire().await.unwrap();
    let stored = api_keys::find(&mut db, &["old".to_owned()]).await.unwrap();
    assert_eq!(stored["old"].as_ref().unwrap().owner, None);
    for owner in [String::new(), " \t".to_owned(), "x".repeat(101)] {
        let named = sqlx::query("UPDATE api_keys SET owner = $1 WHERE id = 'old'").bind(&owner);
        let error = named.execute(&world.pool).await.unwrap_err();
        let constraint = error.as_database_error().and_then(|error| error.constraint());
        assert_eq!(constraint, Some("api_keys_owner_is_a_name"), "{owner:?}");
    }
}
