//! A node that relays, and nodes that only hold their connection to it.

use coalescent::App;
use coalescent::identity::Identity;
use coalescent::prelude::*;
use native::options::Options;
use native::report::{self, Failed};
use serde_json::json;

/// More peers than are allowed without being told so.
const PEERS: usize = 10_000;

/// An app as every role here begins it.
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
    let mesh = match &*options.relay {
        "smartrelay" => {
            let relay = match options.window {
                0 => SmartRelay::new(),
                window => SmartRelay::new().capacity(window),
            };
            app.with(relay).listen(at).await?
        }
        "none" => app.listen(at).await?,
        "tattletale" => app.with(Tattletale::new()).listen(at).await?,
        other => return Err(format!("no such relay: {other:?}").into()),
    };
    report::serve(mesh.local_addrs()[0]).await;
    Ok(())
}

pub(crate) async fn idle(options: &Options) -> Result<(), Failed> {
    let mut meshes = Vec::new();
    for _ in 0..options.connections {
        let mesh = app(options).start().await?;
        mesh.connect(&options.addr).await?;
        meshes.push(mesh);
    }
    report::print(&json!({ "connected": meshes.len() }));
    let mut stdin = tokio::io::stdin();
    tokio::io::copy(&mut stdin, &mut tokio::io::sink()).await?;
    Ok(())
}
