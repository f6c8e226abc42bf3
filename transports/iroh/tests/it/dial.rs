//! Two nodes find each other by key.

use coalescent::{App, DisconnectReason, Event};
use coalescent_iroh::Iroh;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::{EndpointAddr, TransportAddr};

use crate::support::{app, at, builder, endpoint, key, listening, secret, socket, soon};

#[tokio::test]
async fn a_key_alone_is_enough_where_the_endpoint_knows_where_to_look() {
    let there = endpoint().await;
    let lookup = MemoryLookup::new();
    let place = TransportAddr::Ip(socket(&there));
    lookup.add_endpoint_info(EndpointAddr::from_parts(there.id(), [place]));
    let here = builder()
        .address_lookup(lookup)
        .bind()
        .await
        .expect("an endpoint");

    let alice = listening(app(&there)).await;
    let mut heard = alice.reader();
    let bob = app(&here).start().await.expect("a node");
    let address = format!("iroh:{}", there.id());
    let peer = soon("a connection", bob.connect(&address))
        .await
        .expect("a peer");
    assert_eq!(*peer.id(), key(&there));
    assert!(bob.broadcast_payload("hello").await.expect("a mesh").queued == 1);
    let frame = soon("the frame", heard.next_frame())
        .await
        .expect("a frame");
    assert_eq!(*frame.peer().id(), key(&here));
    assert_eq!(frame.payload(), b"hello");
    assert_eq!(
        frame.peer().addr().map(|addr| addr.port()),
        Some(socket(&here).port())
    );
}

#[tokio::test]
async fn a_hint_in_the_address_is_enough_too_and_both_ends_know_the_keys() {
    let (there, here) = (endpoint().await, endpoint().await);
    let alice = listening(app(&there)).await;
    assert_eq!(
        alice.public_key().map(|key| *key.as_bytes()),
        Some(*there.id().as_bytes())
    );
    let bob = app(&here)
        .seeds([at(&there)])
        .start()
        .await
        .expect("a node");
    soon("alice has a peer", alice.connected(1))
        .await
        .expect("a mesh");
    soon("bob has a peer", bob.connected(1))
        .await
        .expect("a mesh");
    assert_eq!(*alice.peers().list()[0].id(), key(&here));
    assert_eq!(*bob.peers().list()[0].id(), key(&there));
}

#[tokio::test]
async fn another_key_than_the_one_asked_for_is_no_peer() {
    let (there, here) = (endpoint().await, endpoint().await);
    let _alice = listening(app(&there)).await;
    let bob = app(&here).start().await.expect("a node");
    let address = format!("iroh:{}?addr={}", secret(1).public(), socket(&there));
    let error = soon("an error", bob.connect(&address))
        .await
        .expect_err("another key");
    let text = error.report().to_string();
    let why = format!("{} does not prove this key", socket(&there));
    assert!(text.contains(&why), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn each_thing_that_can_be_wrong_has_an_error_of_its_own() {
    let (there, here) = (endpoint().await, endpoint().await);
    let bob = app(&here).start().await.expect("a node");
    let somebody = secret(1).public();
    let cases = [
        (
            format!("iroh:{somebody}"),
            "nothing says where this peer is",
        ),
        (format!("iroh:{somebody}?addr=here"), "write addr=IP:PORT"),
        (format!("iroh:{}", here.id()), "is this node itself"),
        (at(&there), "does not listen for coalescent"),
    ];
    there.set_alpns(vec![b"something/else".to_vec()]);
    let other = there.clone();
    tokio::spawn(async move {
        while let Some(incoming) = other.accept().await {
            let _ = incoming.await;
        }
    });
    for (address, why) in cases {
        let error = soon("an error", bob.connect(&address))
            .await
            .expect_err(&address);
        let text = error.report().to_string();
        assert!(text.contains(why), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[tokio::test]
async fn an_app_without_this_transport_says_what_brings_it() {
    let plain = App::new().start().await.expect("a node");
    let address = format!("iroh:{}", secret(1).public());
    let error = plain
        .connect(&address)
        .await
        .expect_err("no such transport");
    assert!(
        error.report().to_string().contains("coalescent-iroh"),
        "{error}"
    );
}

#[tokio::test]
async fn it_listens_at_its_own_key_alone() {
    let here = endpoint().await;
    let error = app(&here)
        .listen(format!("iroh:{}", secret(1).public()))
        .await;
    let text = error.expect_err("another key").report().to_string();
    assert!(
        text.contains(&format!("this endpoint is iroh:{}", here.id())),
        "{text}"
    );
    let iroh = Iroh::new(here.clone());
    assert_eq!(iroh.address(), format!("iroh:{}", here.id()));
}

#[tokio::test]
async fn who_leaves_says_so_and_what_it_said_before_arrives() {
    const MESSAGES: usize = 1000;
    for round in 0..10 {
        let (there, here) = (endpoint().await, endpoint().await);
        let alice = listening(app(&there)).await;
        let (mut heard, mut events) = (alice.reader(), alice.events());
        let bob = app(&here).start().await.expect("a node");
        bob.connect(&at(&there)).await.expect("a peer");
        let count = tokio::spawn(async move {
            let mut count = 0;
            while count < MESSAGES && heard.next_frame().await.is_some() {
                count += 1;
            }
            count
        });
        for number in 0..MESSAGES {
            let payload = format!("{number:01000}");
            let _ = bob.broadcast_payload(payload).await.expect("a mesh");
        }
        let stats = bob.shutdown().await;
        here.close().await;
        assert_eq!(stats.dropped, 0);
        assert_eq!(
            soon("all messages", count).await.expect("a count"),
            MESSAGES
        );
        let reason = soon("the goodbye", async {
            loop {
                if let Event::PeerDisconnected { reason, .. } =
                    events.next().await.expect("an event")
                {
                    return reason;
                }
            }
        });
        let reason = reason.await;
        assert!(
            matches!(reason, DisconnectReason::Bye(_)),
            "round {round}: {reason:?}"
        );
    }
}
