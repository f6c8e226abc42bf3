//! A node that relays, and nodes that only hold their connection to it.

use coalescent::App;
use coalescent::identity::Identity;
use coalescent::prelude::*;
use common::Failed;
use common::options::{Options, Relay};
use common::report::{print, serve, stdin_ends};
use serde_json::json;

/// Peers that every node accepts: more than by default.
const PEERS: usize = 10_000;

/// Makes the app that every role here begins with.
pub(crate) fn app(options: &Options) -> App {
    let app = App::new().max_inbound(PEERS);
    if options.tls {
        app.identity(Identity::generate())
    } else {
        app
    }
}

pub(crate) async fn hub(options: &Options) -> Result<(), Failed> {
    let app = app(options);
    let at = "127.0.0.1:0";
    let mesh = match (options.relay, options.capacity) {
        (Relay::None, _) => app.listen(at).await?,
        (Relay::Tattletale, _) => app.with(Tattletale::new()).listen(at).await?,
        (Relay::SmartRelay, 0) => app.with(SmartRelay::new()).listen(at).await?,
        (Relay::SmartRelay, frames) => {
            let relay = SmartRelay::new().capacity(frames);
            app.with(relay).listen(at).await?
        }
    };
    serve(mesh.local_addrs()[0]).await;
    Ok(())
}

pub(crate) async fn idle(options: &Options) -> Result<(), Failed> {
    let mut meshes = Vec::new();
    for _ in 0..options.connections {
        let mesh = app(options).start().await?;
        mesh.connect(options.addr()?).await?;
        meshes.push(mesh);
    }
    print(&json!({ "connected": meshes.len() }));
    stdin_ends().await;
    Ok(())
}
