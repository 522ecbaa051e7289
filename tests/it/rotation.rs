//! The signing key is changed while payouts are under way. Pike has both public keys by then, as the runbook
//! says.

use crate::{
    outcomes::assert_paid,
    relay::Trouble,
    support::{keys, rest::order, until},
    world::World,
};
use payoutd::pike::sign::Signer;
use secrecy::ExposeSecret;

#[tokio::test]
async fn what_was_signed_with_the_old_key_is_finished_with_the_new_one() {
    let new = payoutd::keys::new_pair().unwrap();
    let mut world = World::with(|setup| setup.partner_keys.push_str(&new.public)).await;
    let (old_key, new_key) = (keys::text("payoutd.key.pem"), new.private.expose_secret());
    let (old, new) = (Signer::from_pem(old_key).unwrap(), Signer::from_pem(new_key).unwrap());
    let shown = |metrics: &str, signer: &Signer| {
        metrics.contains(&format!("payoutd_signing_key{{project=\"shop\",key=\"{}\"}} 1", signer.key_id()))
    };
    assert!(shown(&world.admin("/metrics").await.1, &old));
    // Signed and sent under the old key, its outcome unknown.
    let busy = world.pike.plan("session/confirm", Trouble::Refuse(503), 1);
    let id = world.caller().create(&order("tok_success")).await;
    let lost = || async { (busy.met() == 1).then_some(()) };
    until("a confirm under the old key", lost).await;
    world.stop().await;

    std::fs::write(world.dir.file("keys/payoutd.key.pem"), new_key).unwrap();
    world.start().await;
    let payout = world.caller().wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    assert!(shown(&world.admin("/metrics").await.1, &new));
    let confirms = world.pike.seen_on("session/confirm");
    let by = |signer: &Signer| {
        let made =
            |n: usize| confirms[n].headers["x-partner-sign"] == signer.sign(&confirms[n].body).unwrap();
        (0..confirms.len()).map(made).collect::<Vec<_>>()
    };
    assert_eq!((by(&old), by(&new)), (vec![true, false], vec![false, true]));
}
