//! Peers that have no address, over a transport that proves keys.

use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::identity::PublicKey;
use coalescent_core::test_util::{KeyNetwork, transport};
use coalescent_core::transport::{BoxIo, Memory, Transport};
use coalescent_core::wire::Kind;
use coalescent_core::{Address, App, BanTarget, Event, Mesh, PeerId, Source, Suggestion, Wire};
use futures_util::SinkExt;
use support::{ByHand, soon, until};
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(3600);

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32]).unwrap()
}

fn at(number: u8) -> String {
    format!("key:{}", key(number))
}

fn app(network: &KeyNetwork, number: u8) -> App {
    App::new()
        .transport(network.node(key(number)))
        .configure(|config| config.backoff_max = Duration::from_secs(1))
}

async fn listen(network: &KeyNetwork, number: u8) -> Mesh {
    app(network, number).listen("key:").await.unwrap()
}

async fn start(network: &KeyNetwork, number: u8) -> Mesh {
    app(network, number).start().await.unwrap()
}

/// Opens a connection as the node of this key, and says nothing.
async fn open(network: &KeyNetwork, number: u8, to: u8) -> ByHand<BoxIo> {
    let address: Address = at(to).parse().unwrap();
    let node = network.node(key(number));
    let connected = node.connect(&address, &|_| Ok(())).await.unwrap();
    ByHand::new(connected.io)
}

#[tokio::test(start_paused = true)]
async fn the_network_of_keys_is_a_good_transport() {
    let network = KeyNetwork::new();
    transport::check(network.node(key(7)), network.node(key(8)), "key:").await;
}

#[tokio::test(start_paused = true)]
async fn the_key_that_the_transport_proves_is_the_peers_id() {
    let network = KeyNetwork::new();
    let here = listen(&network, 7).await;
    assert_eq!(here.public_key(), Some(key(7)));
    assert!(here.local_addrs().is_empty());
    assert_eq!(here.local_addresses()[0].to_string(), at(7));
    let there = start(&network, 8).await;
    let peer = there.connect(&at(7)).await.unwrap();
    assert_eq!(*peer.id(), PeerId::Key(key(7)));
    soon("a peer", here.connected(1)).await.unwrap();
    let seen = here.peers().list()[0].clone();
    assert_eq!(seen.id().key(), Some(key(8)));
    for (peer, number) in [(&peer, 7), (&seen, 8)] {
        assert_eq!(peer.addr(), None);
        assert_eq!(peer.address().unwrap().to_string(), at(number));
        // There is nothing that others could dial, and nothing at which it is seen.
        assert_eq!((peer.listen_addr(), peer.seen_addr()), (None, None));
        assert!(format!("{peer:?}").contains(&at(number)), "{peer:?}");
    }
    assert_eq!(there.broadcast_payload("hello").await.unwrap().queued, 1);
}

#[tokio::test(start_paused = true)]
async fn who_proves_another_key_than_the_dialled_one_is_no_peer_and_dialled_again() {
    let network = KeyNetwork::new();
    let liar = App::new().transport(network.node(key(7)).proving(key(9)));
    let liar = liar.listen("key:").await.unwrap();
    let there = app(&network, 8).seeds([at(7)]).start().await.unwrap();
    let mut events = there.events();
    let error = there.connect(&at(7)).await.unwrap_err();
    let expected = format!("the peer is {}, not {}", key(9), key(7));
    assert!(error.is_handshake(), "{error}");
    assert!(error.report().to_string().contains(&expected), "{error}");
    let told = soon("an error", async {
        loop {
            if let Event::Error { error, .. } = events.next().await.unwrap() {
                return error;
            }
        }
    });
    assert!(told.await.report().to_string().contains(&expected));
    liar.shutdown().await;
    let honest = listen(&network, 7).await;
    soon("the seed", there.connected(1)).await.unwrap();
    drop(honest);
}

#[tokio::test(start_paused = true)]
async fn the_allow_list_holds_without_tls() {
    let network = KeyNetwork::new();
    let here = app(&network, 7).allow([key(8)]).listen("key:");
    let here = here.await.unwrap();
    let (friend, stranger) = (start(&network, 8).await, start(&network, 9).await);
    friend.connect(&at(7)).await.unwrap();
    let error = stranger.connect(&at(7)).await.unwrap_err();
    assert!(
        error.is_refused() && error.report().to_string().contains("not allowed"),
        "{error}"
    );
    // Neither is dialled who is not on it.
    let open = listen(&network, 10).await;
    let error = here.connect(&at(10)).await.unwrap_err();
    assert!(
        error.report().to_string().contains("is not allowed"),
        "{error}"
    );
    assert!(here.allow(key(9)).unwrap() && here.allow(key(10)).unwrap());
    stranger.connect(&at(7)).await.unwrap();
    here.connect(&at(10)).await.unwrap();
    until("three peers", || here.peers().len() == 3).await;
    assert!(here.disallow(&key(8)).unwrap());
    until("two peers", || here.peers().len() == 2).await;
    assert!(friend.connect(&at(7)).await.unwrap_err().is_refused());
    // Who is on the list is not banned.
    assert!(here.ban(key(9), HOUR, "spam").unwrap_err().is_config());
    drop(open);

    let error = App::new().allow([key(8)]).start().await.unwrap_err();
    assert!(error.is_config(), "{error}");
    let without = App::new().start().await.unwrap();
    assert!(without.allow(key(8)).unwrap_err().is_config());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_banned_at_the_door_and_at_the_dialler() {
    let network = KeyNetwork::new();
    let here = listen(&network, 7).await;
    let there = listen(&network, 8).await;
    there.connect(&at(7)).await.unwrap();
    until("a peer", || here.peers().len() == 1).await;
    here.peers().list()[0].penalize(1000, "junk");
    until("nobody", || here.peers().is_empty()).await;
    assert_eq!(here.bans()[0].target(), BanTarget::Key(key(8)));
    // One BYE, before anything was said.
    let bye = open(&network, 8, 7).await.recv().await.unwrap();
    assert_eq!((bye.kind, &bye.payload[..]), (Kind::Bye, &b"banned"[..]));
    assert!(there.connect(&at(7)).await.unwrap_err().is_banned());
    assert!(here.connect(&at(8)).await.unwrap_err().is_banned());
    let other = start(&network, 9).await;
    other.connect(&at(7)).await.unwrap();
    assert!(here.unban(key(8)));
    there.connect(&at(7)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_without_addresses_are_counted_by_their_keys() {
    let network = KeyNetwork::new();
    let here = app(&network, 7).configure(|config| {
        config.max_per_ip = 2;
        config.max_inbound = 2;
        config.max_pending = 8;
    });
    let here = here.listen("key:").await.unwrap();
    let _first = open(&network, 8, 7).await;
    let _second = open(&network, 8, 7).await;
    let bye = open(&network, 8, 7).await.recv().await.unwrap();
    assert_eq!((bye.kind, &bye.payload[..]), (Kind::Bye, &b"busy"[..]));
    let (a, b) = (start(&network, 9).await, start(&network, 10).await);
    a.connect(&at(7)).await.unwrap();
    b.connect(&at(7)).await.unwrap();
    until("two peers", || here.peers().len() == 2).await;
    let c = start(&network, 11).await;
    assert!(c.connect(&at(7)).await.unwrap_err().is_busy());
    a.shutdown().await;
    until("a place", || here.peers().len() == 1).await;
    c.connect(&at(7)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_adopted_is_counted_if_that_is_asked_for() {
    let here = App::new().max_inbound(1).start().await.unwrap();
    let adopt = async |number: u8, counted: bool| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let info = ConnectionInfo::inbound().key(key(number));
        let info = if counted { info.counted() } else { info };
        let (adopted, by_hand) = tokio::join!(here.adopt(theirs, info), async {
            let mut by_hand = ByHand::new(ours);
            let hello = support::hello(by_hand.node, "");
            let hello = support::packet(Kind::Hello, hello);
            // It may have been refused by now.
            let _ = by_hand.framed.send(hello).await;
            by_hand
        });
        (adopted, by_hand)
    };
    let (first, _kept) = adopt(7, true).await;
    let (_, _other) = adopt(8, false).await;
    let (refused, mut by_hand) = adopt(9, true).await;
    let error = refused.unwrap_err();
    let bye = by_hand.recv().await.unwrap();
    assert_eq!((bye.kind, &bye.payload[..]), (Kind::Bye, &b"busy"[..]));
    assert!(
        error.is_refused() && error.report().to_string().contains("max_inbound"),
        "{error}"
    );
    first.unwrap().disconnect("to make room");
    // Its place is free once its connection has closed.
    soon("a place", async {
        while adopt(9, true).await.0.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_comes_back_is_connected_again() {
    let network = KeyNetwork::new();
    let there = listen(&network, 7).await;
    let here = app(&network, 8).seeds([at(7)]).start().await.unwrap();
    soon("the seed", here.connected(1)).await.unwrap();
    there.shutdown().await;
    until("it is gone", || here.peers().is_empty()).await;
    let there = listen(&network, 7).await;
    soon("the seed again", here.connected(1)).await.unwrap();
    drop(there);
}

#[tokio::test(start_paused = true)]
async fn a_node_finds_itself_by_its_key() {
    let network = KeyNetwork::new();
    for wire in [Wire::native(), Wire::lines()] {
        let app = app(&network, 7).wire(wire).seeds([at(7)]);
        let here = app.listen("key:").await.unwrap();
        let mut events = here.events();
        let error = here.connect(&at(7)).await.unwrap_err();
        assert!(error.is_itself(), "{error}");
        let address: Address = at(7).parse().unwrap();
        assert!(here.probe(&address).await.unwrap_err().is_itself());
        sleep(HOUR).await;
        here.shutdown().await;
        let mut told = 0;
        while let Some(event) = events.next().await {
            told += usize::from(matches!(event, Event::Error { error, .. } if error.is_itself()));
        }
        assert_eq!(told, 1, "however often the seed is dialled");
    }
}

#[tokio::test(start_paused = true)]
async fn one_app_has_peers_over_several_transports() {
    let (network, memory) = (KeyNetwork::new(), Memory::new());
    let hub = app(&network, 7).transport(memory.clone());
    let hub = hub.listen("key:").await.unwrap();
    let second = hub.listen("hub:1").await.unwrap();
    assert_eq!(second.to_string(), "127.0.0.1:1");
    assert_eq!(hub.local_addresses().len(), 2);
    let there = App::new().transport(memory.clone());
    let there = there.listen("there:2").await.unwrap();
    let both = app(&network, 8).transport(memory.clone());
    let both = both.seeds([at(7), "there:2".to_owned()]).start();
    let both = both.await.unwrap();
    soon("both seeds", both.connected(2)).await.unwrap();
    let plain = App::new().transport(memory).start().await.unwrap();
    plain.connect("hub:1").await.unwrap();
    soon("two peers", hub.connected(2)).await.unwrap();
    let peer = plain.peers().list()[0].clone();
    assert_eq!(peer.address().unwrap().to_string(), "127.0.0.1:1");
    // Who came over the one is told the address of the other, which may lead somewhere for it.
    let listens = plain.peers().list()[0].listen_addr().map(str::to_owned);
    assert_eq!(listens.as_deref(), Some("127.0.0.1:1"));
    drop(there);
}

#[tokio::test(start_paused = true)]
async fn a_suggestion_may_be_a_key() {
    let network = KeyNetwork::new();
    let there = listen(&network, 7).await;
    let here = start(&network, 8).await;
    let address: Address = at(7).parse().unwrap();
    assert!(here.may_dial(&address));
    here.suggest(Suggestion::new(address, Source::new("ours")));
    soon("a peer", here.connected(1)).await.unwrap();
    drop(there);
}

#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn the_identity_and_the_key_of_a_transport_must_be_one() {
    use coalescent_core::identity::Identity;

    let network = KeyNetwork::new();
    let identity = Identity::generate();
    let app = App::new().identity(identity.clone());
    let error = app.transport(network.node(key(7))).start().await;
    let error = error.unwrap_err();
    assert!(
        error.is_config() && error.report().to_string().contains("one secret key"),
        "{error}"
    );
    // No TLS of ours over it: the other end, which has no identity, would not understand it.
    let memory = Memory::new();
    let app = App::new()
        .identity(identity.clone())
        .transport(memory.clone());
    let app = app.transport(network.node(identity.id()));
    let here = app.listen("key:").await.unwrap();
    here.listen("here:1").await.unwrap();
    let there = start(&network, 8).await;
    let peer = there.connect(&format!("key:{}", identity.id())).await;
    assert_eq!(peer.unwrap().id().key(), Some(identity.id()));
    // Over the other one there is.
    let tls = App::new().identity(Identity::generate()).transport(memory);
    let tls = tls.start().await.unwrap();
    let peer = tls.connect(&format!("{}@here:1", identity.id())).await;
    assert_eq!(peer.unwrap().id().key(), Some(identity.id()));
}
