//! Who gets in: limits, bans and lists go by key.

use std::time::Duration;

use coalescent::identity::PublicKey;
use coalescent::{App, DisconnectReason, Event, Events};
use iroh::Endpoint;

use crate::support::{app, at, endpoint, key, listening, soon, until};

fn public(endpoint: &Endpoint) -> PublicKey {
    PublicKey::from_bytes(*endpoint.id().as_bytes()).expect("a key")
}

async fn disconnected(events: &mut Events) -> DisconnectReason {
    loop {
        let event = soon("an event", events.next()).await.expect("an event");
        if let Event::PeerDisconnected { reason, .. } = event {
            return reason;
        }
    }
}

#[tokio::test]
async fn who_finds_no_place_is_told_and_finds_it_later() {
    let there = endpoint().await;
    let alice = listening(app(&there).max_inbound(1)).await;
    let (first, second) = (endpoint().await, endpoint().await);
    let bob = app(&first).start().await.expect("a node");
    bob.connect(&at(&there)).await.expect("a peer");
    until("bob has the place", || alice.peers().len() == 1).await;
    let carol = app(&second).start().await.expect("a node");
    for _ in 0..10 {
        let error = carol.connect(&at(&there)).await.expect_err("no place");
        assert!(error.is_busy(), "{error}");
    }
    bob.shutdown().await;
    until("the place is free", || alice.peers().is_empty()).await;
    carol.connect(&at(&there)).await.expect("a peer");
    until("carol has it", || {
        let list = alice.peers().list();
        list.iter().any(|peer| *peer.id() == key(&second))
    })
    .await;
}

#[tokio::test]
async fn a_banned_key_does_not_come_back_and_another_one_from_there_does() {
    let there = endpoint().await;
    let alice = listening(app(&there)).await;
    let (first, second) = (endpoint().await, endpoint().await);
    let bob = app(&first).start().await.expect("a node");
    let mut events = bob.events();
    bob.connect(&at(&there)).await.expect("a peer");
    until("bob is there", || alice.peers().len() == 1).await;
    alice
        .ban(public(&first), Duration::from_secs(60), "rude")
        .expect("a ban");
    disconnected(&mut events).await;
    for _ in 0..3 {
        let error = bob.connect(&at(&there)).await.expect_err("banned");
        assert_eq!(error.report().to_string().lines().count(), 1, "{error}");
    }
    // All of them are at one address.
    let carol = app(&second).start().await.expect("a node");
    carol.connect(&at(&there)).await.expect("a peer");
    assert!(alice.unban(public(&first)));
    bob.connect(&at(&there)).await.expect("a peer again");
}

#[tokio::test]
async fn a_banned_key_is_not_dialled() {
    let (there, here) = (endpoint().await, endpoint().await);
    let _alice = listening(app(&there)).await;
    let bob = app(&here).start().await.expect("a node");
    bob.ban(public(&there), Duration::from_secs(60), "rude")
        .expect("a ban");
    let error = bob.connect(&at(&there)).await.expect_err("banned");
    assert!(error.is_banned(), "{error}");
}

#[tokio::test]
async fn a_list_lets_in_whom_it_names_until_it_does_not() {
    let there = endpoint().await;
    let (first, second) = (endpoint().await, endpoint().await);
    let alice = listening(app(&there).allow([public(&first)])).await;
    let bob = app(&first).start().await.expect("a node");
    let carol = app(&second).start().await.expect("a node");
    bob.connect(&at(&there)).await.expect("a peer");
    let error = carol
        .connect(&at(&there))
        .await
        .expect_err("not on the list");
    assert!(
        error.report().to_string().contains("not allowed"),
        "{error}"
    );
    let mut events = bob.events();
    assert!(alice.disallow(&public(&first)).expect("a list"));
    disconnected(&mut events).await;
    assert!(alice.allow(public(&second)).expect("a list"));
    carol.connect(&at(&there)).await.expect("a peer");
    assert!(bob.connect(&at(&there)).await.is_err());
}

#[tokio::test]
async fn who_dials_goes_by_its_list_too() {
    let (there, here) = (endpoint().await, endpoint().await);
    let _alice = listening(app(&there)).await;
    let app: App = app(&here).allow([public(&here)]);
    let bob = app.start().await.expect("a node");
    let error = bob.connect(&at(&there)).await.expect_err("not on the list");
    assert!(
        error.report().to_string().contains("not allowed"),
        "{error}"
    );
}
