//! Contacts: connections on which only channels are shared, until one node promotes the other.

mod dialled;
#[cfg(feature = "tls")]
mod keys;
mod limits;
mod promoted;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coalescent_core::transport::{BoxIo, Memory, Transport};
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{Address, App, AppExt, Event, Flow, Mesh, Peer, Plugin, Registrar};
use futures_util::SinkExt;
use support::{ByHand, soon, until};
use tokio::io::{AsyncRead, AsyncWrite};

const CHANNEL: &str = "test/1";

/// A plugin whose connections begin as contacts, and what it has seen of them.
#[derive(Clone, Default)]
struct Contacts(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// What has happened, in order.
    log: Vec<String>,
    met: Vec<Peer>,
    heard: Vec<Bytes>,
}

impl Plugin for Contacts {
    fn register(&self, app: &mut Registrar) {
        let log = |what: &'static str| {
            let seen = Arc::clone(&self.0);
            move |_: &Peer| seen.lock().unwrap().log.push(what.to_owned())
        };
        let (met, connected, gone) = (log("contact"), log("connect"), log("disconnect"));
        let (seen, heard) = (Arc::clone(&self.0), Arc::clone(&self.0));
        app.contacts(CHANNEL)
            .on_contact(move |peer| {
                assert!(peer.is_contact() && peer.is_connected());
                met(peer);
                seen.lock().unwrap().met.push(peer.clone());
            })
            .on_contact_end(log("end"))
            .on_connect(move |peer| {
                assert!(!peer.is_contact());
                connected(&peer);
                async {}
            })
            .on_disconnect(move |peer| {
                gone(&peer);
                async {}
            })
            .channel(CHANNEL, move |_, payload| {
                heard.lock().unwrap().heard.push(payload);
                async {}
            });
    }
}

impl Contacts {
    fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }

    fn met(&self) -> Vec<Peer> {
        self.0.lock().unwrap().met.clone()
    }

    fn heard(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().heard.clone()
    }

    /// Waits until this many contacts were met, and returns the last of them.
    async fn contact(&self, nth: usize) -> Peer {
        until("a contact", || self.met().len() >= nth).await;
        self.met()[nth - 1].clone()
    }
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn app(contacts: &Contacts) -> App {
    App::new().plugin(contacts.clone())
}

/// Two nodes, of which `b` has dialled `a` as a contact.
struct Two {
    a: Mesh,
    a_saw: Contacts,
    b: Mesh,
    b_saw: Contacts,
    /// What `b` is to `a`.
    here: Peer,
    /// What `a` is to `b`.
    there: Peer,
}

async fn two() -> Two {
    let network = Memory::new();
    let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
    let a = app(&a_saw).transport(network.clone());
    let a = a.listen("a:1").await.unwrap();
    let b = app(&b_saw).transport(network).start().await.unwrap();
    let there = b.contact(&address("a:1"), None).await.unwrap();
    let here = a_saw.contact(1).await;
    Two {
        a,
        a_saw,
        b,
        b_saw,
        here,
        there,
    }
}

/// Introduces itself by hand as a node that lists the channel, over the memory network.
async fn by_hand(network: &Memory, to: &str, channels: &[&str]) -> ByHand<BoxIo> {
    let permit = |_| Ok(());
    let io = network.connect(&address(to), &permit).await.unwrap().io;
    greeted_as(io, channels).await
}

/// Introduces itself by hand over `io`, as a node that lists the channel.
async fn greeted<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> ByHand<IO> {
    greeted_as(io, &[CHANNEL]).await
}

async fn greeted_as<IO>(io: IO, channels: &[&str]) -> ByHand<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut by_hand = ByHand::new(io);
    let hello = Hello::new(by_hand.node, "").channels(channels.iter().copied());
    by_hand.send(Kind::Hello, hello.encode().unwrap()).await;
    by_hand
}

#[tokio::test(start_paused = true)]
async fn a_contact_shares_channels_and_nothing_else() {
    let two = two().await;
    assert!(two.here.is_contact() && two.there.is_contact());
    let mut events = two.a.events();
    for mesh in [&two.a, &two.b] {
        assert!(mesh.peers().is_empty() && mesh.peers().list().is_empty());
        assert_eq!(mesh.broadcast_payload("to all").await.unwrap().queued, 0);
    }
    assert!(two.a.peers().find(two.here.id()).is_none());
    assert!(
        two.here
            .send_payload("beep")
            .await
            .unwrap_err()
            .is_refused()
    );
    assert!(two.here.try_send_payload("beep").unwrap_err().is_refused());
    assert!(
        two.here
            .request_payload("beep")
            .await
            .unwrap_err()
            .is_refused()
    );

    assert!(!two.here.offer("beep", Flow::Wait).await);
    let mut writer = two.here.writer();
    assert!(writer.send(Bytes::from("beep")).await.is_err());
    let mut writer = two.here.writer();
    for _ in 0..2 {
        writer.feed(Bytes::from("beep")).await.unwrap();
    }
    assert!(writer.flush().await.is_err());
    two.here.send_on(CHANNEL, "to b").await.unwrap();
    two.there.try_send_on(CHANNEL, "to a").unwrap();
    until("both have heard", || {
        two.a_saw.heard() == ["to a"] && two.b_saw.heard() == ["to b"]
    })
    .await;

    two.there.disconnect("enough");
    until("both have ended", || {
        two.a_saw.log() == ["contact", "end"] && two.b_saw.log() == ["contact", "end"]
    })
    .await;
    assert!(two.here.is_contact() && !two.here.is_connected());
    assert!(two.here.promote().unwrap_err().is_closed());
    two.a.shutdown().await;
    while let Some(event) = soon("an event", events.next()).await {
        assert!(matches!(event, Event::Listening { .. }), "{event:?}");
    }
    let stats = two.b.shutdown().await;
    assert_eq!((stats.sent, stats.received, stats.channel_sent), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_list_no_such_channel_are_ordinary_peers() {
    let network = Memory::new();
    let saw = Contacts::default();
    let a = app(&saw).transport(network.clone());
    let a = a.listen("a:1").await.unwrap();
    let plain = App::new().transport(network.clone());
    let plain = plain.listen("plain:2").await.unwrap();

    let there = plain.connect("a:1").await.unwrap();
    assert!(!there.is_contact());
    soon("a peer", a.connected(1)).await.unwrap();
    assert_eq!(saw.log(), ["connect"]);
    there.disconnect("done");
    until("it has left", || a.peers().is_empty()).await;

    let peer = a.contact(&address("plain:2"), None).await.unwrap();
    assert!(!peer.is_contact());
    assert_eq!(a.peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_goodbye_to_contacts() {
    let network = Memory::new();
    let saw = Contacts::default();
    let a = app(&saw).transport(network.clone());
    let a = a.listen("a:1").await.unwrap();
    let mut hand = by_hand(&network, "a:1", &[CHANNEL]).await;
    assert_eq!(hand.recv().await.unwrap().kind, Kind::Hello);
    let contact = saw.contact(1).await;
    let (bye, _) = tokio::join!(hand.expect_bye(), a.shutdown());
    assert_eq!(bye, "shutting down");
    assert!(!contact.is_connected());
    assert_eq!(saw.log(), ["contact", "end"]);
}

#[tokio::test(start_paused = true)]
async fn the_channel_of_contacts_has_to_be_registered() {
    struct Missing;
    impl Plugin for Missing {
        fn register(&self, app: &mut Registrar) {
            app.contacts("none/1");
        }
    }
    let error = App::new().plugin(Missing).start().await.unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("none/1"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_costs_nobody_the_contact() {
    struct Panics;
    impl Plugin for Panics {
        fn register(&self, app: &mut Registrar) {
            app.contacts(CHANNEL)
                .channel(CHANNEL, |_, _| async {})
                .on_contact(|_| panic!("a test"));
        }
    }
    let network = Memory::new();
    let a = App::new().plugin(Panics).transport(network.clone());
    let a = a.listen("a:1").await.unwrap();
    let saw = Contacts::default();
    let b = app(&saw).transport(network).start().await.unwrap();
    let there = b.contact(&address("a:1"), None).await.unwrap();
    let mut events = a.events();
    loop {
        if let Event::Error { error, .. } = soon("an error", events.next()).await.unwrap() {
            assert!(error.is_panic(), "{error}");
            break;
        }
    }
    assert!(there.is_contact() && there.is_connected());
}
