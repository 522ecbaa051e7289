//! Names that lead into the network. The address is judged when the connection is made, so that a name which
//! was public when it was looked at is of no use.

use crate::{
    peer::{Conduct, Peer, answer},
    support::project,
};
use payoutd::{
    keys,
    notify::{Endpoint, Notifier, PrivateAddresses, Secret, SendFailed},
};
use secrecy::ExposeSecret;
use std::{collections::BTreeMap, time::Duration};

#[tokio::test]
async fn a_name_that_leads_inside_is_not_called() {
    let peer = Peer::start(|_| Conduct::Say(answer("200 OK", ""))).await;
    let url = peer.url.replace("127.0.0.1", "localhost");
    assert_ne!(url, peer.url);
    let send = async |private| {
        let secret = Secret::parse(keys::new_notify_secret().unwrap().expose_secret()).unwrap();
        let endpoint = Endpoint { url: url.clone(), secret };
        // Nothing is wrong with the name itself.
        let notifier =
            Notifier::new(BTreeMap::from([(project(), endpoint)]), Duration::from_secs(60), private).unwrap();
        notifier.send(&project(), "msg_1", 1, "{}").await
    };
    assert_eq!(send(PrivateAddresses::Refused).await, Err(SendFailed::NoAnswer));
    assert_eq!(peer.heard(), 0, "called inside the network");
    assert_eq!(send(PrivateAddresses::Allowed).await, Ok(()));
    assert_eq!(peer.heard(), 1, "the name does lead there");
}
