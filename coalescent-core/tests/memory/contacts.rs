//! The memory that contacts take.

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{App, AppExt, Mesh, Plugin, Registrar};
use support::{ByHand, on_the_wire, packet, pour, until};
use tokio::io::DuplexStream;

use crate::{ALONE, HEAP, KIB, MIB};

const CHANNEL: &str = "test/1";

/// A plugin that talks on a channel, with contacts or with peers.
struct Talks {
    to_contacts: bool,
}

impl Plugin for Talks {
    fn register(&self, app: &mut Registrar) {
        app.channel(CHANNEL, |_, _: Bytes| async {});
        if self.to_contacts {
            app.contacts(CHANNEL).on_contact(|_| {});
        }
    }
}

async fn start(to_contacts: bool) -> Mesh {
    let app = App::new().plugin(Talks { to_contacts });
    app.max_contacts(2000).start().await.unwrap()
}

async fn join(mesh: &Mesh, pipe: usize) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(pipe);
    let mut by_hand = ByHand::new(near);
    let hello = Hello::new(by_hand.node, "").channels([CHANNEL]);
    let greet = by_hand.send(Kind::Hello, hello.encode().unwrap());
    let (adopted, ()) = tokio::join!(mesh.adopt(far, ConnectionInfo::inbound()), greet);
    adopted.unwrap();
    by_hand.recv().await.expect("a hello");
    by_hand
}

/// Returns what this many idle connections take here, with both of their ends.
async fn idle(to_contacts: bool, count: usize) -> usize {
    let mesh = start(to_contacts).await;
    let mut ends = Vec::with_capacity(count);
    let first = join(&mesh, KIB).await;
    let before = HEAP.current_usage();
    for _ in 0..count {
        ends.push(join(&mesh, KIB).await);
    }
    // They fall idle after a second without data.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    assert_eq!(mesh.peers().is_empty(), to_contacts);
    drop((first, ends));
    mesh.abort().await;
    grown
}

#[tokio::test(start_paused = true)]
async fn an_idle_contact_takes_no_more_than_an_idle_peer() {
    const COUNT: usize = 500;
    let _alone = ALONE.lock().await;
    let (contacts, peers) = (idle(true, COUNT).await, idle(false, COUNT).await);
    println!(
        "each of {COUNT}: a contact {}, a peer {}",
        contacts / COUNT,
        peers / COUNT
    );
    assert!(contacts <= peers + 64 * KIB, "{contacts} of {peers}");
}

#[tokio::test(start_paused = true)]
async fn a_contact_takes_no_more_than_is_published() {
    let _alone = ALONE.lock().await;
    let mesh = start(true).await;
    let mut contact = join(&mesh, 16 * KIB).await;
    let before = HEAP.current_usage();
    let config = mesh.peers().config();
    let published = config.contact_bytes() + config.channels_bytes(1);
    let junk = on_the_wire(&vec![packet(Kind::Unknown(0x66), vec![0; 10_000]); 12]);
    // A frame for the stack that is as large as it may be, and never ends.
    let frame = on_the_wire(&[packet(Kind::Broadcast { nonce: 1 }, vec![0; MIB])]);
    let io = contact.framed.get_mut();
    pour(io, &junk, 20).await;
    pour(io, &frame[..frame.len() - 1], 1).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(grown <= published, "{grown} of {published}");
    assert!(mesh.peers().is_empty());
    drop(contact);
    mesh.abort().await;
}

#[tokio::test(start_paused = true)]
async fn of_contacts_that_come_and_go_no_memory_stays() {
    const TIMES: usize = 1000;
    let _alone = ALONE.lock().await;
    let mesh = start(true).await;
    let mut before = 0;
    for time in 0..TIMES + 100 {
        let mut contact = join(&mesh, KIB).await;
        contact.send(Kind::Channel { index: 0 }, "here").await;
        if time == 100 {
            // What is kept for others was allocated by then.
            before = HEAP.current_usage();
        }
        drop(contact);
        until("it has left", || {
            mesh.stats().channel_received > time as u64
        })
        .await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(grown < 32 * KIB, "{grown} bytes after {TIMES}");
    mesh.abort().await;
}
