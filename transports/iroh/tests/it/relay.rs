//! Nodes that reach each other through a relay alone, as behind two NATs that let nothing in.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use coalescent::Router;
use coalescent::extract::{Body, State};
use coalescent::prelude::*;
use coalescent_iroh::Quiet;
use iroh::{Endpoint, RelayMode, RelayUrl};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::support::{app, in_subnet, key, listening, secret, soon, until};

/// Runs a relay on loopback.
async fn relay(port: u16) -> Server {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        port,
    ))));
    Server::spawn(config).await.expect("a relay")
}

fn url(port: u16) -> RelayUrl {
    format!("http://127.0.0.1:{port}").parse().expect("a URL")
}

/// An endpoint that has no socket but the one to its relay.
async fn behind(relay: &RelayUrl) -> Endpoint {
    let builder = Endpoint::builder(Quiet).clear_ip_transports();
    let builder = builder.relay_mode(RelayMode::custom([relay.clone()]));
    builder.bind().await.expect("an endpoint")
}

#[derive(Serialize, Deserialize)]
struct Line {
    text: String,
}

async fn hear(State(heard): State<mpsc::UnboundedSender<String>>, Body(line): Body<Line>) {
    let _ = heard.send(line.text);
}

#[tokio::test]
async fn two_who_cannot_reach_each_other_chat_through_a_relay() {
    let server = relay(0).await;
    let relay = url(server.http_addr().expect("an address").port());
    // Two networks without a way from one to the other.
    let in_network = async |addr| {
        let builder = in_subnet(addr).relay_mode(RelayMode::custom([relay.clone()]));
        builder.bind().await.expect("an endpoint")
    };
    let there = in_network("127.0.1.1:0").await;
    let here = in_network("127.0.2.1:0").await;
    soon("the relay", there.online()).await;
    let chat = |endpoint: &Endpoint| {
        let (said, heard) = mpsc::unbounded_channel();
        let router = Router::new().route("line", hear).with_state(said);
        (app(endpoint).with(Courier::new()).with(router), heard)
    };
    let ((alice, mut to_alice), (bob, mut to_bob)) = (chat(&there), chat(&here));
    let alice = alice.listen("iroh:").await.expect("a node");
    let seed = format!("iroh:{}?relay={relay}", there.id());
    let bob = bob.seeds([seed]).start().await.expect("a node");
    soon("bob", alice.connected(1)).await.expect("a mesh");
    soon("alice", bob.connected(1)).await.expect("a mesh");
    let peer = alice.peers().list()[0].clone();
    assert_eq!(*peer.id(), key(&here));
    assert_eq!(peer.addr(), None);
    for number in 0..100 {
        let line = |name| Line {
            text: format!("{name} {number}"),
        };
        let _ = alice
            .broadcast("line", &line("alice"))
            .await
            .expect("a mesh");
        let _ = bob.broadcast("line", &line("bob")).await.expect("a mesh");
        assert_eq!(
            soon("a line", to_bob.recv()).await,
            Some(format!("alice {number}"))
        );
        assert_eq!(
            soon("a line", to_alice.recv()).await,
            Some(format!("bob {number}"))
        );
    }
    assert_eq!(bob.shutdown().await.dropped, 0);
}

/// Peers without an address are told apart by key: of places, bans and lists none goes by address.
#[tokio::test]
async fn through_a_relay_places_and_bans_go_by_key() {
    let server = relay(0).await;
    let relay = url(server.http_addr().expect("an address").port());
    let there = behind(&relay).await;
    soon("the relay", there.online()).await;
    let alice = listening(app(&there).max_inbound(2)).await;
    let address = format!("iroh:{}?relay={relay}", there.id());
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let endpoint = behind(&relay).await;
        let node = app(&endpoint).start().await.expect("a node");
        node.connect(&address).await.expect("a peer");
        nodes.push((node, endpoint));
    }
    soon("both", alice.connected(2)).await.expect("a mesh");
    let third = app(&behind(&relay).await).start().await.expect("a node");
    assert!(
        third
            .connect(&address)
            .await
            .expect_err("no place")
            .is_busy()
    );
    let first = nodes[0].0.public_key().expect("a key");
    alice
        .ban(first, Duration::from_secs(60), "rude")
        .expect("a ban");
    until("there is a place", || alice.peers().len() == 1).await;
    assert!(nodes[0].0.connect(&address).await.is_err());
    // The place of who was banned is free once its connection has ended.
    soon("a peer", async {
        while let Err(error) = third.connect(&address).await {
            assert!(error.is_busy(), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_is_down_is_one_clear_error_and_is_tried_again() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("an address").port()
    };
    let relay_url = url(port);
    let (there, here) = (behind(&relay_url).await, behind(&relay_url).await);
    let _alice = listening(app(&there)).await;
    let seed = format!("iroh:{}?relay={relay_url}", there.id());
    let bob = app(&here).seeds([&seed]).start().await.expect("a node");
    let mut events = bob.events();
    let error = soon("an error", async {
        loop {
            if let Event::Error { error, .. } = events.next().await.expect("an event") {
                return error.report().to_string();
            }
        }
    });
    let error = error.await;
    assert!(error.contains("is the relay up"), "{error}");
    assert!(error.contains(&relay_url.to_string()), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let _server = relay(port).await;
    soon("alice", bob.connected(1)).await.expect("a mesh");
}

/// Nobody is found by a key that the relay does not know.
#[tokio::test]
async fn who_is_not_at_the_relay_is_not_found() {
    let server = relay(0).await;
    let relay = url(server.http_addr().expect("an address").port());
    let here = behind(&relay).await;
    let bob = app(&here).start().await.expect("a node");
    let address = format!("iroh:{}?relay={relay}", secret(1).public());
    let error = soon("an error", bob.connect(&address))
        .await
        .expect_err("nobody");
    assert!(
        error.is_timeout() || error.report().to_string().contains("is the relay up"),
        "{error}"
    );
}
