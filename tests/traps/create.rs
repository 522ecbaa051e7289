//! Looking before inserting lets two in. Keys and references are settled by unique indexes.

use crate::support::{Database, order, rules};
use payoutd::{
    domain::id::PayoutId,
    engine::{CreateRefusal, Created},
    store::payouts::NewPayout,
};
use std::collections::BTreeSet;

const CALLERS: usize = 50;

/// Fifty callers at once, over two replicas.
async fn race(database: &Database, orders: Vec<NewPayout>) -> Vec<Created> {
    let engines = [database.engine(rules(None)).await, database.engine(rules(None)).await];
    let calls: Vec<_> = orders
        .into_iter()
        .enumerate()
        .map(|(number, order)| {
            let engine = engines[number % 2].clone();
            tokio::spawn(async move { engine.create(order).await.unwrap() })
        })
        .collect();
    let mut created = vec![];
    for call in calls {
        created.push(call.await.unwrap());
    }
    created
}

fn new(created: &[Created]) -> Vec<PayoutId> {
    created
        .iter()
        .filter_map(|created| match created {
            Created::New(stored) => Some(stored.payout.id),
            Created::Existing(_) | Created::Refused(_) => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_one_payout_however_many_call() {
    let database = Database::fresh().await;
    let orders = (0..CALLERS)
        .map(|_| NewPayout { idempotency_key: "the key".to_owned(), ..order("user-1") })
        .collect();
    let created = race(&database, orders).await;
    let new = new(&created);
    assert_eq!(new.len(), 1);
    let told: BTreeSet<PayoutId> = created
        .iter()
        .map(|created| match created {
            Created::New(stored) | Created::Existing(stored) => stored.payout.id,
            Created::Refused(refusal) => panic!("{refusal:?}"),
        })
        .collect();
    assert_eq!(told, BTreeSet::from([new[0]]));
    for table in [
        "SELECT count(*) FROM payouts",
        "SELECT count(*) FROM history",
        "SELECT count(*) FROM effects WHERE kind = 'create_session'",
    ] {
        assert_eq!(database.number(table).await, 1, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reference_is_one_payout_under_whatever_keys() {
    let database = Database::fresh().await;
    let with_reference = |_| {
        let mut new = order("user-1");
        new.order.reference = Some("invoice 1".to_owned());
        new
    };
    let created = race(&database, (0..CALLERS).map(with_reference).collect()).await;
    let new = new(&created);
    assert_eq!(new.len(), 1);
    for created in &created {
        match created {
            Created::New(_) => {}
            Created::Refused(CreateRefusal::ReferenceTaken(holder)) => assert_eq!(*holder, new[0]),
            other @ (Created::Existing(_) | Created::Refused(CreateRefusal::KeyReused(_))) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM payouts").await, 1);
}

#[tokio::test]
async fn a_key_with_another_request_is_refused_by_either_replica() {
    let database = Database::fresh().await;
    let keyed = |request_fingerprint| NewPayout {
        idempotency_key: "the key".to_owned(),
        request_fingerprint,
        ..order("user-1")
    };
    let created = race(&database, vec![keyed([1; 32]), keyed([2; 32]), keyed([1; 32]), keyed([2; 32])]).await;
    let [holder] = new(&created)[..] else { panic!("{created:?}") };
    let refused = created
        .iter()
        .filter(|created| matches!(created, Created::Refused(CreateRefusal::KeyReused(id)) if *id == holder))
        .count();
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn keys_and_references_are_compared_byte_by_byte() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    for (key, reference) in [("abc", "Invoice-1"), ("ABC", "invoice-1"), ("abC", "INVOICE-1")] {
        let mut new = NewPayout { idempotency_key: key.to_owned(), ..order("user-1") };
        new.order.reference = Some(reference.to_owned());
        let created = engine.create(new).await.unwrap();
        assert!(matches!(created, Created::New(_)), "{key} {reference}: {created:?}");
    }
}
