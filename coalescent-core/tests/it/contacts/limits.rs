//! Places for contacts, and for those that become peers.

use std::time::Duration;

use coalescent_core::PeerChange;
use coalescent_core::wire::MAX_BLOCK_FRAMES;
use support::{on_the_wire, packet};
use tokio::io::AsyncWriteExt;

use super::*;

/// A node that accepts, with these limits.
async fn accepts(contacts: usize, inbound: usize) -> (Memory, Contacts, Mesh) {
    let network = Memory::new();
    let saw = Contacts::default();
    let app = app(&saw).max_contacts(contacts).max_inbound(inbound);
    let mesh = app.transport(network.clone()).listen("a:1").await.unwrap();
    (network, saw, mesh)
}

async fn dials(network: &Memory) -> (Contacts, Mesh) {
    let saw = Contacts::default();
    let mesh = app(&saw).transport(network.clone()).start().await.unwrap();
    (saw, mesh)
}

#[tokio::test(start_paused = true)]
async fn contacts_and_peers_have_places_of_their_own() {
    let (network, saw, a) = accepts(1, 1).await;
    let plain = App::new().transport(network.clone()).start().await.unwrap();
    let peer = plain.connect("a:1").await.unwrap();
    // As many peers as there may be: a contact gets in all the same.
    let (_, b) = dials(&network).await;
    let there = b.contact(&address("a:1"), None).await.unwrap();
    let here = saw.contact(1).await;
    // But it cannot become a peer.
    assert!(here.promote().unwrap_err().is_busy());
    assert!(here.is_contact());
    // One more contact, or peer, does not get in.
    let (_, c) = dials(&network).await;
    let error = c.contact(&address("a:1"), None).await.unwrap_err();
    assert!(error.is_busy(), "{error}");
    let other = App::new().transport(network.clone()).start().await.unwrap();
    assert!(other.connect("a:1").await.unwrap_err().is_busy());

    peer.disconnect("making room");
    until("there is room", || a.peers().is_empty()).await;
    until("it can be promoted", || here.promote().is_ok()).await;
    // Now there is a place for a contact, and none for a peer.
    assert!(other.connect("a:1").await.unwrap_err().is_busy());
    let third = c.contact(&address("a:1"), None).await.unwrap();
    assert!(third.is_contact());
    there.disconnect("making room");
    until("it has left", || a.peers().is_empty()).await;
    soon("a place", async {
        while a.peers().is_empty() {
            let _ = other.connect("a:1").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_sends_frames_without_a_place_is_told_that_this_node_is_busy() {
    for kind in [
        Kind::Data,
        Kind::Broadcast { nonce: 7 },
        Kind::Request { id: 1 },
    ] {
        let (network, saw, a) = accepts(4, 0).await;
        let mut reader = a.reader();
        let mut changes = a.peers().changes();
        let mut hand = by_hand(&network, "a:1", &[CHANNEL]).await;
        hand.send(Kind::Channel { index: 0 }, "first").await;
        for _ in 0..3 {
            hand.send(kind, "beep").await;
        }
        hand.send(Kind::Channel { index: 0 }, "too late").await;
        assert_eq!(hand.recv().await.unwrap().kind, Kind::Hello);
        assert_eq!(hand.expect_bye().await, "busy");
        until("it has ended", || saw.log() == ["contact", "end"]).await;
        assert_eq!(saw.heard(), ["first"]);
        let stats = a.shutdown().await;
        assert_eq!((stats.received, stats.delivered, stats.dropped), (0, 0, 0));
        assert!(reader.next_frame().await.is_none());
        assert_eq!(changes.next().await, None::<PeerChange>);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_counts_behind_a_frame_without_a_place() {
    let (network, saw, _a) = accepts(4, 0).await;
    let mut hand = by_hand(&network, "a:1", &[CHANNEL]).await;
    assert_eq!(hand.recv().await.unwrap().kind, Kind::Hello);
    // Until what is read at a time is more than what is decoded at a time.
    const FIRST: usize = 2000;
    for nth in 1..=FIRST {
        hand.send(Kind::Channel { index: 0 }, vec![0; 100]).await;
        if nth % 100 == 0 {
            until("they were heard", || saw.heard().len() == nth).await;
        }
    }
    let mut packets = vec![packet(Kind::Channel { index: 0 }, "late"); 2 * MAX_BLOCK_FRAMES];
    packets.insert(0, packet(Kind::Broadcast { nonce: 7 }, "beep"));
    let io = hand.framed.get_mut();
    io.write_all(&on_the_wire(&packets)).await.unwrap();
    assert_eq!(hand.expect_bye().await, "busy");
    until("it has ended", || saw.log() == ["contact", "end"]).await;
    assert_eq!(saw.heard().len(), FIRST);
}

#[tokio::test(start_paused = true)]
async fn an_outbound_contact_becomes_a_peer_within_max_peers() {
    let network = Memory::new();
    let mut nodes = Vec::new();
    for port in 1..=3 {
        let saw = Contacts::default();
        let node = app(&saw).transport(network.clone());
        nodes.push((node.listen(format!("a:{port}")).await.unwrap(), saw));
    }
    let saw = Contacts::default();
    let b = app(&saw).max_peers(2).transport(network.clone());
    let b = b.start().await.unwrap();
    let mut contacts = Vec::new();
    for port in 1..=3 {
        let there = b.contact(&address(&format!("a:{port}")), None).await;
        contacts.push(there.unwrap());
    }
    contacts[0].promote().unwrap();
    contacts[1].promote().unwrap();
    assert!(contacts[2].promote().unwrap_err().is_busy());
    assert!(contacts[2].is_contact());
    // A plain node is a peer at once, or not at all.
    let plain = App::new().transport(network.clone());
    let _plain = plain.listen("plain:9").await.unwrap();
    let refused = b.contact(&address("plain:9"), None).await.unwrap_err();
    assert!(refused.is_refused() && !refused.is_banned(), "{refused}");
    // One that the other end promotes is told so too.
    let here = nodes[2].1.contact(1).await;
    here.promote().unwrap();
    here.send_payload("beep").await.unwrap();
    soon("the end", here.closed()).await;
    assert_eq!(saw.log().iter().filter(|what| *what == "end").count(), 1);

    contacts[0].disconnect("making room");
    until("it has left", || b.peers().len() == 1).await;
    let peer = b.contact(&address("plain:9"), None).await.unwrap();
    assert!(!peer.is_contact());
}

#[tokio::test(start_paused = true)]
async fn outbound_contacts_are_limited_and_their_ends_free_places() {
    let (network, _saw, _a) = accepts(32, 64).await;
    let saw = Contacts::default();
    let b = app(&saw).max_contacts(1).transport(network.clone());
    let b = b.start().await.unwrap();
    let other = app(&Contacts::default()).transport(network.clone());
    let _other = other.listen("other:2").await.unwrap();
    for _ in 0..5 {
        let contact = b.contact(&address("a:1"), None).await.unwrap();
        let error = b.contact(&address("other:2"), None).await.unwrap_err();
        assert!(error.is_busy(), "{error}");
        contact.disconnect("next");
        soon("the end", contact.closed()).await;
        until("the place is free", || Arc::strong_count(&saw.0) > 0).await;
        // Its connection gives the place back once it is closed.
        soon("a place", async {
            while b
                .contact(&address("nobody:3"), None)
                .await
                .unwrap_err()
                .is_busy()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    assert_eq!(saw.log().iter().filter(|what| *what == "end").count(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_old_contact_gives_way_to_a_new_one() {
    let (network, saw, _a) = accepts(1, 64).await;
    let mut old = by_hand(&network, "a:1", &[CHANNEL]).await;
    saw.contact(1).await;
    assert_eq!(old.recv().await.unwrap().kind, Kind::Hello);
    let (_, b) = dials(&network).await;
    assert!(
        b.contact(&address("a:1"), None)
            .await
            .unwrap_err()
            .is_busy()
    );
    tokio::time::advance(Duration::from_secs(10)).await;
    let contact = b.contact(&address("a:1"), None).await.unwrap();
    assert!(contact.is_contact());
    assert_eq!(old.expect_bye().await, "busy");
    let expected = ["contact", "contact", "end"];
    until("the old one has ended", || saw.log() == expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_banned_node_is_no_contact() {
    let (network, saw, a) = accepts(32, 64).await;
    let (b_saw, b) = dials(&network).await;
    let there = b.contact(&address("a:1"), None).await.unwrap();
    let here = saw.contact(1).await;
    here.penalize(1000, "a test");
    let reason = soon("the end", there.closed()).await;
    assert!(reason.to_string().contains("a test"), "{reason}");
    until("both know", || b_saw.log() == ["contact", "end"]).await;
    until("both know", || saw.log() == ["contact", "end"]).await;
    let banned = |event: &Event| matches!(event, Event::Banned { peer, .. } if peer.as_ref() == Some(here.id()));
    let mut events = a.events();
    while !banned(&soon("the ban", events.next()).await.unwrap()) {}
}

#[tokio::test(start_paused = true)]
async fn of_many_contacts_that_come_and_go_nothing_stays() {
    let (network, saw, a) = accepts(32, 64).await;
    for _ in 0..1000 {
        let mut hand = by_hand(&network, "a:1", &[CHANNEL]).await;
        assert_eq!(hand.recv().await.unwrap().kind, Kind::Hello);
    }
    let ended = || saw.log().iter().filter(|what| *what == "end").count();
    until("all have ended", || ended() == 1000).await;
    for contact in saw.met() {
        assert!(!contact.is_connected());
    }
    let (_, b) = dials(&network).await;
    assert!(b.contact(&address("a:1"), None).await.unwrap().is_contact());
    drop(a);
}
