//! Dialling contacts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use coalescent_core::identity::PublicKey;
use coalescent_core::test_util::KeyNetwork;
use coalescent_core::{Source, Suggestion};
use support::internet::Internet;
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_that_is_dialled_twice_is_the_same_contact() {
    let two = two().await;
    let again = two.b.contact(&address("a:1"), None).await.unwrap();
    assert!(again == two.there);
    let (to, teller) = (address("a:1"), Some(&two.there));
    let (one, other) = tokio::join!(two.b.contact(&to, teller), two.b.contact(&to, teller));
    assert!(one.unwrap() == two.there && other.unwrap() == two.there);
    two.there.promote().unwrap();
    let peer = two.b.contact(&address("a:1"), None).await.unwrap();
    assert!(peer == two.there && !peer.is_contact());
    assert_eq!(two.b_saw.met().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_dial_each_other_at_once_are_one_contact() {
    for time in 0..50 {
        let network = Memory::new();
        let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
        let a = app(&a_saw).transport(network.clone());
        let a = a.listen("a:1").await.unwrap();
        let b = app(&b_saw).transport(network.clone());
        let b = b.listen("b:2").await.unwrap();
        let (to_a, to_b) = (address("a:1"), address("b:2"));
        let (there, here) = tokio::join!(b.contact(&to_a, None), a.contact(&to_b, None));
        let (there, here) = (there.unwrap(), here.unwrap());
        assert!(here.is_contact() && there.is_contact(), "{time}");
        assert_eq!((a_saw.met().len(), b_saw.met().len()), (1, 1), "{time}");
        let mut reader = a.reader();
        there.promote().unwrap();
        let _ = b.broadcast_payload("beep").await.unwrap();
        let frame = soon("a frame", reader.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), b"beep".as_slice());
        assert!(!here.is_contact() && here.is_connected());
    }
}

#[tokio::test(start_paused = true)]
async fn seeds_are_dialled_only_for_wishes() {
    let network = Memory::new();
    let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
    let a = app(&a_saw).transport(network.clone());
    let _a = a.listen("a:1").await.unwrap();
    let b = app(&b_saw).transport(network).seeds(["a:1", "a:1"]);
    let b = b.start().await.unwrap();
    assert_eq!(b.seeds(), [address("a:1")]);
    b.add_seed("other:2").unwrap();
    assert_eq!(b.seeds(), [address("a:1"), address("other:2")]);
    assert!(b.remove_seed("other:2").unwrap());
    assert_eq!((b.wanted().now(), b.peers().config().min_peers), (0, 0));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(b_saw.met().len(), 0);

    let wish = b.one_more();
    let contact = b_saw.contact(1).await;
    assert!(contact.is_contact());
    // It counts as connected, and as a place for a peer, until it ends.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(b_saw.met().len(), 1);
    contact.promote().unwrap();
    contact.disconnect("next");
    b_saw.contact(2).await;
    drop(wish);
}

#[tokio::test(start_paused = true)]
async fn neighbours_do_not_fulfil_wishes_and_suggestions_do() {
    let network = Memory::new();
    let mut nodes = Vec::new();
    for name in ["a:1", "b:2"] {
        let node = app(&Contacts::default()).transport(network.clone());
        nodes.push(node.listen(name).await.unwrap());
    }
    let saw = Contacts::default();
    let c = app(&saw).transport(network).start().await.unwrap();
    let there = c.contact(&address("a:1"), None).await.unwrap();
    there.promote().unwrap();
    let _wish = c.one_more();
    assert_eq!(c.wanted().now(), 1);
    c.suggest(Suggestion::new(address("b:2"), Source::new("test")));
    let second = saw.contact(2).await;
    assert!(second.is_contact());
    assert_eq!(c.wanted().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_of_another_scheme_is_not_taken_from_a_peer() {
    let network = KeyNetwork::new();
    let key = |number| PublicKey::from_bytes([number; 32]).unwrap();
    let memory = Memory::new();
    let saw = Contacts::default();
    let there = app(&saw).transport(network.node(key(7)));
    let _there = there.listen("key:").await.unwrap();
    let teller = App::new().transport(memory.clone());
    let _teller = teller.listen("teller:1").await.unwrap();
    let here = app(&saw).transport(network.node(key(8))).transport(memory);
    let here = here.start().await.unwrap();
    let teller = here.connect("teller:1").await.unwrap();
    let to = address(&format!("key:{}", key(7)));
    let error = here.contact(&to, Some(&teller)).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    // It may be this node's own choice.
    assert!(here.contact(&to, None).await.unwrap().is_contact());
}

#[tokio::test(start_paused = true)]
async fn told_addresses_are_dialled_within_the_budget() {
    let network = Memory::new();
    let saw = Contacts::default();
    let a = app(&saw).transport(network.clone());
    let _a = a.listen("a:1").await.unwrap();
    let b_saw = Contacts::default();
    let b = app(&b_saw)
        .transport(network.clone())
        .start()
        .await
        .unwrap();
    let teller = b.contact(&address("a:1"), None).await.unwrap();
    let begun = Instant::now();
    for dial in 0..12_u32 {
        let error = b.contact(&address("nobody:7"), Some(&teller)).await;
        assert!(!error.unwrap_err().is_busy());
        let due = Duration::from_secs(1) * dial.saturating_sub(7);
        let taken = begun.elapsed();
        assert!(
            taken >= due && taken < due + Duration::from_millis(500),
            "{dial}: {taken:?}"
        );
    }
    // What is not told costs nothing.
    let before = Instant::now();
    for _ in 0..20 {
        assert!(b.contact(&address("nobody:7"), None).await.is_err());
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    // Who asks for too much is told so, after 10 s.
    let many = (0..30).map(|_| async {
        let dialled = b.contact(&address("nobody:7"), Some(&teller)).await;
        dialled.unwrap_err().is_busy()
    });
    let busy = futures_util::future::join_all(many).await;
    let busy = busy.iter().filter(|busy| **busy).count();
    assert!((18..=20).contains(&busy), "{busy}");
    assert!(before.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn told_addresses_where_nobody_answers_leave_places_for_others() {
    let network = Memory::new();
    let a = app(&Contacts::default()).transport(network.clone());
    let _a = a.listen("a:1").await.unwrap();
    // It accepts, and says nothing.
    let _silent = network.listen("silent:2").await.unwrap();
    let saw = Contacts::default();
    let b = app(&saw).max_contacts(4).transport(network.clone());
    let b = b.start().await.unwrap();
    let teller = b.contact(&address("a:1"), None).await.unwrap();
    let silent = address("silent:2");
    let begun = Instant::now();
    let told = async || {
        let error = b.contact(&silent, Some(&teller)).await.unwrap_err();
        (
            begun.elapsed().as_secs(),
            error.is_timeout(),
            error.is_busy(),
        )
    };
    let own = async {
        // Behind the others.
        tokio::task::yield_now().await;
        let there = b.contact(&address("a:1"), None).await.unwrap();
        assert!(there == teller && begun.elapsed() < Duration::from_secs(1));
    };
    // One waits for its place; with a third, there would be no place for it at all.
    let (first, second, third, ()) = tokio::join!(told(), told(), told(), own);
    assert_eq!((first, second), ((5, true, false), (5, true, false)));
    assert_eq!(third, (10, true, false));
}

#[tokio::test(start_paused = true)]
async fn suggestions_of_one_network_do_not_keep_each_other_from_being_contacts() {
    let internet = Internet::new();
    let mut nodes = Vec::new();
    for ip in [[203, 0, 113, 1], [203, 0, 113, 2]] {
        let node = app(&Contacts::default()).allow_plaintext();
        let node = node.transport(internet.host(ip));
        nodes.push(
            node.listen(format!("{}:1", Ipv4Addr::from(ip)))
                .await
                .unwrap(),
        );
    }
    let saw = Contacts::default();
    let c = app(&saw)
        .allow_plaintext()
        .transport(internet.host([192, 0, 2, 1]));
    let c = c.start().await.unwrap();
    let _wish = c.one_more();
    let addresses = ["203.0.113.1:1", "203.0.113.2:1"].map(address);
    for suggested in &addresses {
        c.suggest(Suggestion::new(suggested.clone(), Source::new("test")));
    }
    saw.contact(1).await;
    for suggested in &addresses {
        assert!(c.contact(suggested, None).await.unwrap().is_contact());
    }
    assert_eq!(saw.met().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_told_leads_nowhere_private() {
    let internet = Internet::new();
    let listening = async |ip: [u8; 4]| {
        let node = app(&Contacts::default()).allow_plaintext();
        let node = node.transport(internet.host(ip));
        node.listen(format!("{}:1", Ipv4Addr::from(ip)))
            .await
            .unwrap()
    };
    let _teller = listening([203, 0, 113, 1]).await;
    let _inside = listening([10, 0, 0, 1]).await;
    internet.name("trap", [[10, 0, 0, 1].into()]);
    internet.name("both", [[10, 0, 0, 1].into(), [203, 0, 113, 1].into()]);
    let c = app(&Contacts::default()).allow_plaintext();
    let c = c
        .transport(internet.host([192, 0, 2, 1]))
        .start()
        .await
        .unwrap();
    let teller = c.contact(&address("203.0.113.1:1"), None).await.unwrap();
    let error = c
        .contact(&address("trap:1"), Some(&teller))
        .await
        .unwrap_err();
    assert!(
        error.is_refused() && error.report().to_string().contains("not as near"),
        "{error}"
    );
    let both = c.contact(&address("both:1"), Some(&teller)).await;
    assert!(both.is_ok_and(|there| there == teller));
    assert_eq!(
        internet.dials_to(|addr| addr.ip() == IpAddr::from([10, 0, 0, 1])),
        0
    );
    // This node's own choice is another matter.
    assert!(c.contact(&address("trap:1"), None).await.unwrap() != teller);
}

#[tokio::test]
async fn no_private_address_is_taken_from_a_peer_on_the_internet() {
    use coalescent_core::connection::ConnectionInfo;
    let saw = Contacts::default();
    let b = app(&saw).allow_plaintext().start().await.unwrap();
    let seen_at = async |addr: &str| {
        let (near, far) = tokio::io::duplex(1024);
        let mut hand = ByHand::new(near);
        let hello = Hello::new(hand.node, "").channels([CHANNEL]);
        hand.send(Kind::Hello, hello.encode().unwrap()).await;
        let info = ConnectionInfo::inbound().addr(addr.parse().unwrap());
        (b.adopt(far, info).await.unwrap(), hand)
    };
    let (public, _hand) = seen_at("198.51.100.7:9").await;
    assert!(public.is_contact());
    for there in ["127.0.0.1:1", "10.0.0.1:1", "[fe80::1]:1", "localhost:1"] {
        let error = b.contact(&address(there), Some(&public)).await.unwrap_err();
        let text = error.report().to_string();
        assert!(
            error.is_refused() && !error.is_busy() && text.contains("not as near"),
            "{text}"
        );
    }
    // Nor from one that has left, or whose transport has no addresses.
    for teller in [Some(IpAddr::from([198, 51, 100, 7])), None] {
        let told = b.contact_told(&address("10.0.0.1:1"), teller).await;
        let error = told.unwrap_err();
        assert!(error.is_refused() && !error.is_busy(), "{error}");
    }
    let (local, _hand) = seen_at("127.0.0.1:9").await;
    for there in ["127.0.0.1:1", "localhost:1"] {
        let error = b.contact(&address(there), Some(&local)).await.unwrap_err();
        assert!(error.is_dial(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_dialled_outside_of_what_the_options_allow() {
    let saw = Contacts::default();
    let b = app(&saw).start().await.unwrap();
    let error = b
        .contact(&address("198.51.100.7:1"), None)
        .await
        .unwrap_err();
    assert!(error.is_plaintext(), "{error}");
    let b = app(&saw).allow_plaintext().start().await.unwrap();
    let ip: std::net::IpAddr = "198.51.100.7".parse().unwrap();
    b.ban(ip, Duration::from_secs(60), "a test").unwrap();
    let error = b
        .contact(&address("198.51.100.7:1"), None)
        .await
        .unwrap_err();
    assert!(error.is_banned(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_does_not_meet_itself() {
    let network = Memory::new();
    let saw = Contacts::default();
    let a = app(&saw).transport(network);
    let a = a.listen("a:1").await.unwrap();
    let error = a.contact(&address("a:1"), None).await.unwrap_err();
    assert!(error.is_itself(), "{error}");
    assert!(saw.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_connected_is_not_refused_for_want_of_a_place() {
    // Which of two connections stays depends on the numbers of the nodes.
    for _ in 0..20 {
        let network = Memory::new();
        let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
        let a = app(&a_saw).transport(network.clone());
        let a = a.listen("a:1").await.unwrap();
        let b = app(&b_saw).max_contacts(1).transport(network.clone());
        let b = b.listen("b:2").await.unwrap();
        let there = b.contact(&address("a:1"), None).await.unwrap();
        let here = a_saw.contact(1).await;
        let only_place = by_hand(&network, "b:2", &[CHANNEL]).await;
        b_saw.contact(2).await;
        let other = app(&Contacts::default()).transport(network.clone());
        let other = other.start().await.unwrap();
        let error = other.contact(&address("b:2"), None).await.unwrap_err();
        assert!(error.is_busy(), "{error}");

        assert!(a.contact(&address("b:2"), None).await.unwrap() == here);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(here.is_connected() && there.is_connected());
        assert_eq!((a_saw.log().len(), b_saw.log().len()), (1, 2));
        // No more are let in than before, nor fewer afterwards.
        let error = other.contact(&address("b:2"), None).await.unwrap_err();
        assert!(error.is_busy(), "{error}");
        drop(only_place);
        there.disconnect("done");
        until("both have ended", || b_saw.log().len() == 4).await;
        assert!(
            other
                .contact(&address("b:2"), None)
                .await
                .unwrap()
                .is_contact()
        );
    }
}
