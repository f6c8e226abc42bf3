//! What one peer can cost: it speaks QUIC as it likes.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use coalescent_iroh::{ALPN, MAX_OPENING};
use iroh::endpoint::{Connection, ConnectionError};
use iroh::{Endpoint, EndpointAddr, TransportAddr};

use crate::support::{app, at, endpoint, listening, socket, soon};

async fn quic(here: &Endpoint, there: &Endpoint) -> Connection {
    let place = EndpointAddr::from_parts(there.id(), [TransportAddr::Ip(socket(there))]);
    let connected = soon("a connection", here.connect(place, ALPN)).await;
    connected.expect("a connection of QUIC")
}

fn is_pending<F: Future>(future: F) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(pin!(future).poll(&mut cx), Poll::Pending)
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out() {
    let there = endpoint().await;
    let _alice = listening(app(&there)).await;
    let silent = endpoint().await;
    let mut held = Vec::new();
    for _ in 0..MAX_OPENING + 32 {
        held.push(quic(&silent, &there).await);
    }
    let open = held
        .iter()
        .filter(|connection| connection.close_reason().is_none());
    // Each newcomer beyond the bound has cost the oldest its place.
    assert!(open.count() <= MAX_OPENING + 1);
    let bob = app(&endpoint().await).start().await.expect("a node");
    bob.connect(&at(&there)).await.expect("a peer");
}

#[tokio::test]
async fn a_peer_has_one_stream() {
    let (there, here) = (endpoint().await, endpoint().await);
    let _alice = listening(app(&there)).await;
    let connection = quic(&here, &there).await;
    let (mut send, _recv) = connection.open_bi().await.expect("the stream");
    send.write_all(&[0]).await.expect("a connection");
    assert!(is_pending(connection.open_bi()));
    assert!(is_pending(connection.open_uni()));
    assert_eq!(connection.max_datagram_size(), None);
}

#[tokio::test]
async fn a_stream_that_begins_with_another_byte_is_closed() {
    let (there, here) = (endpoint().await, endpoint().await);
    let _alice = listening(app(&there)).await;
    let connection = quic(&here, &there).await;
    let (mut send, _recv) = connection.open_bi().await.expect("the stream");
    send.write_all(&[1]).await.expect("a connection");
    let reason = soon("the end", connection.closed()).await;
    let ConnectionError::ApplicationClosed(close) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(&close.reason[..], b"unknown first byte");
}
