//! A plugin: it greets peers, remembers their names, and adds a verb to the mesh, `who`.
//!
//! ```text
//! cargo run --example plugin
//! ```

use coalescent::prelude::*;
use coalescent::{PeerId, WeakMesh};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The names of the peers that have said one.
type Names = BTreeMap<PeerId, String>;

/// How often a node says its name again, for peers that have changed theirs.
const EVERY: Duration = Duration::from_secs(10);

/// The plugin. Cheap to clone.
#[derive(Clone)]
struct Presence {
    name: Arc<str>,
    names: Arc<watch::Sender<Names>>,
}

impl Presence {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            names: Arc::new(watch::Sender::default()),
        }
    }
}

impl Plugin for Presence {
    fn register(&self, app: &mut Registrar) {
        // A value that everyone who has the mesh or a peer can get.
        app.insert(self.clone());
        // Hooks: before the first frame of a peer, and after the last.
        let name = Arc::clone(&self.name);
        app.on_connect(move |peer| {
            let name = Arc::clone(&name);
            // A peer that has gone again needs no greeting.
            async move { drop(peer.send("presence", &*name).await) }
        });
        let names = Arc::clone(&self.names);
        app.on_disconnect(move |peer| {
            names.send_modify(|names| drop(names.remove(peer.id())));
            std::future::ready(())
        });
        // A task that ends with the mesh, and does not keep it alive.
        app.spawn({
            let name = Arc::clone(&self.name);
            move |mesh| announce(mesh, name)
        });
    }
}

async fn announce(mesh: WeakMesh, name: Arc<str>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let Some(mesh) = mesh.upgrade() else { return };
        for peer in mesh.peers().list().iter() {
            let _ = peer.send("presence", &*name).await;
        }
    }
}

/// The handler of what the plugin says to its like.
async fn present(peer: Peer, Shared(presence): Shared<Presence>, Body(name): Body<String>) {
    presence
        .names
        .send_modify(|names| drop(names.insert(*peer.id(), name)));
}

/// The verb: `use` this trait, and a mesh has it.
trait PresenceExt {
    /// The names of the connected peers, to look at or to wait for; nobody's without the plugin.
    fn who(&self) -> watch::Receiver<Names>;
}

impl PresenceExt for Mesh {
    fn who(&self) -> watch::Receiver<Names> {
        match self.get::<Presence>() {
            Some(presence) => presence.names.subscribe(),
            None => watch::channel(Names::new()).1,
        }
    }
}

async fn node(name: &str) -> Result<Mesh, coalescent::Error> {
    App::new()
        .plugin(Presence::new(name))
        .with(Courier::new())
        .with(Router::new().route("presence", ends(present)))
        .listen("127.0.0.1:0")
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (alice, bob, carol) = tokio::try_join!(node("alice"), node("bob"), node("carol"))?;
    for other in [&bob, &carol] {
        let addr = other.local_addrs()[0];
        alice.connect(&addr.to_string()).await?;
    }
    let mut who = alice.who();
    let two = who.wait_for(|names| names.len() == 2).await?.clone();
    println!("alice sees {:?}", two.values().collect::<Vec<_>>());
    bob.shutdown().await;
    let one = who.wait_for(|names| names.len() == 1).await?.clone();
    println!("alice sees {:?}", one.values().collect::<Vec<_>>());
    assert!(one.values().eq(["carol"]));
    Ok(())
}
