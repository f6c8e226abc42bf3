//! Waits for events, frames and messages of nodes in this process.

use coalescent_core::{DisconnectReason, Event, Events, Mesh, MeshReader, Message, Peer};
use tokio::io::AsyncReadExt;

use crate::soon;

/// Waits for an event that `pick` makes something of, and passes over others.
pub async fn event<T>(
    what: &str,
    events: &mut Events,
    mut pick: impl FnMut(Event) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event = events.next().await;
            let event = event.unwrap_or_else(|| panic!("the mesh ended before {what}"));
            if let Some(found) = pick(event) {
                return found;
            }
        }
    })
    .await
}

/// Waits for the next peer that connects.
pub async fn connected(events: &mut Events) -> Peer {
    event("peer connected", events, |event| match event {
        Event::PeerConnected { peer } => Some(peer),
        _ => None,
    })
    .await
}

/// Waits for the next peer that leaves, and why.
pub async fn disconnected(events: &mut Events) -> (Peer, DisconnectReason) {
    event("peer disconnected", events, |event| match event {
        Event::PeerDisconnected { peer, reason } => Some((peer, reason)),
        _ => None,
    })
    .await
}

/// Waits for the next error, as its text.
pub async fn error(events: &mut Events) -> String {
    event("error", events, |event| match event {
        Event::Error { error, .. } => Some(error.report().to_string()),
        _ => None,
    })
    .await
}

/// Where the mesh listens first.
pub fn addr(mesh: &Mesh) -> String {
    let addrs = mesh.local_addrs();
    addrs.first().expect("the mesh listens").to_string()
}

/// Waits for the next frame's payload.
pub async fn payload(reader: &mut MeshReader) -> Vec<u8> {
    let frame = soon("frame", reader.next_frame()).await;
    frame.expect("the mesh runs").payload().to_vec()
}

/// Waits for the next message.
pub async fn message(reader: &mut MeshReader) -> Message {
    let frame = soon("message", reader.next_frame()).await;
    let frame = frame.expect("the mesh runs");
    frame.message().expect("the courier parsed it").clone()
}

/// Waits for the next message, as its type and its body.
pub async fn typed(reader: &mut MeshReader) -> (String, serde_json::Value) {
    let message = message(reader).await;
    let body = message
        .body_value()
        .expect("a body that JSON has a form for");
    (message.kind().to_owned(), body)
}

/// Waits for so many bytes.
pub async fn bytes(reader: &mut MeshReader, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let read = soon("bytes", reader.read_exact(&mut bytes)).await;
    read.expect("the mesh runs");
    bytes
}
