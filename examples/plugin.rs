//! A plugin: it greets peers, remembers their names, and adds verbs to the mesh: `who`, and one
//! that waits.
//!
//! ```text
//! cargo run --example plugin
//! ```

use std::sync::Arc;
use std::time::Duration;

use coalescent::WeakMesh;
use coalescent::prelude::*;
use tokio::sync::watch;

/// The name that a peer has said: kept with the peer, so that one that comes back does not lose its
/// name when the connection that it had before is found to be gone.
#[derive(Clone)]
struct Name(String);

/// How often a node says its name again, for peers that have changed theirs.
const EVERY: Duration = Duration::from_secs(10);

/// The plugin. Cheap to clone.
#[derive(Clone)]
struct Presence {
    name: Arc<str>,
    /// Tells that names have come or gone.
    changed: Arc<watch::Sender<()>>,
}

impl Presence {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            changed: Arc::default(),
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
        let changed = Arc::clone(&self.changed);
        app.on_disconnect(move |_peer| {
            changed.send_replace(());
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
    peer.set(Name(name));
    presence.changed.send_replace(());
}

/// The verbs: `use` this trait, and a mesh has them.
trait PresenceExt {
    /// The names of the connected peers, in the order of the alphabet.
    fn who(&self) -> Vec<String>;

    /// Waits until as many peers have said their names; for ever without the plugin.
    async fn wait_for(&self, names: usize) -> Vec<String>;
}

impl PresenceExt for Mesh {
    fn who(&self) -> Vec<String> {
        let peers = self.peers().list();
        let mut names: Vec<_> = peers
            .iter()
            .filter_map(Peer::get::<Name>)
            .map(|name| name.0)
            .collect();
        names.sort();
        names
    }

    async fn wait_for(&self, names: usize) -> Vec<String> {
        let Some(presence) = self.get::<Presence>() else {
            return std::future::pending().await;
        };
        // Before the first look, so that no change is missed.
        let mut changes = presence.changed.subscribe();
        loop {
            let who = self.who();
            if who.len() == names {
                return who;
            }
            // The plugin, and so the sender, is there as long as the mesh is.
            let _ = changes.changed().await;
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
    println!("alice sees {:?}", alice.wait_for(2).await);
    bob.shutdown().await;
    println!("alice sees {:?}", alice.wait_for(1).await);
    assert_eq!(alice.who(), ["carol"]);
    Ok(())
}
