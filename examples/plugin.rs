//! A plugin that exchanges names with peers and adds methods to the mesh.
//!
//! ```text
//! cargo run --example plugin
//! ```

#[path = "support/command_line.rs"]
mod command_line;

use std::sync::Arc;
use std::time::Duration;

use coalescent::extract::Body;
use coalescent::prelude::*;
use coalescent::{Router, WeakMesh};
use tokio::sync::watch;

/// The name of a peer. It is attached to the connection's [`Peer`], so that when a peer reconnects,
/// the late end of its old connection does not remove the new name.
#[derive(Clone)]
struct Name(String);

/// How often a node repeats its name, for peers that have replaced their connection.
const EVERY: Duration = Duration::from_secs(10);

/// The plugin, which is cheap to clone.
#[derive(Clone)]
struct Presence {
    name: Arc<str>,
    /// Notified when a name is added or removed.
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
        // Share a value with all code that has the mesh or a peer.
        app.insert(self.clone());
        // Add hooks, which run before the first frame of a peer and after the last.
        let name = Arc::clone(&self.name);
        app.on_connect(move |peer| {
            let name = Arc::clone(&name);
            // Ignore the error if the peer has already disconnected.
            async move { drop(peer.send("presence", &*name).await) }
        });
        let changed = Arc::clone(&self.changed);
        app.on_disconnect(move |_peer| {
            changed.send_replace(());
            std::future::ready(())
        });
        // Spawn a task that ends with the mesh and does not keep it alive.
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

/// Handles the message that the plugin sends to other nodes.
async fn present(peer: Peer, Shared(presence): Shared<Presence>, Body(name): Body<String>) {
    peer.set(Name(name));
    presence.changed.send_replace(());
}

/// The methods that the plugin adds to a mesh, for code that imports this trait.
trait PresenceExt {
    /// Returns the names of the connected peers in alphabetical order.
    fn who(&self) -> Vec<String>;

    /// Waits until exactly `names` peers have a name. Never returns if the plugin is missing.
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
        // Subscribe before the first look, so that no change is missed.
        let mut changes = presence.changed.subscribe();
        loop {
            let who = self.who();
            if who.len() == names {
                return who;
            }
            // This cannot fail: the mesh keeps the plugin, and thus the sender, alive.
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
    command_line::none("Three nodes whose plugin exchanges their names");
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
