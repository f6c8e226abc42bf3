//! Connections that do nothing.

use common::Failed;
use common::options::Options;
use common::report::{print, stdin_ends};
use serde_json::json;

use super::framing::Wire;
use crate::socket;
use crate::wire::hello;

/// The role that holds connections until its stdin ends.
///
/// # Errors
///
/// Where the server does not accept as many.
pub async fn idle(options: &Options) -> Result<(), Failed> {
    let (addr, certificate) = socket::address(options)?;
    let wire = Wire::of(options)?;
    let mut streams = Vec::new();
    let mut secured = Vec::new();
    for _ in 0..options.connections {
        if certificate.is_empty() {
            streams.push(wire.connect(addr).await?);
        } else {
            let stream = socket::connect(addr).await?;
            let (connector, name) = socket::tls_client(certificate)?;
            let mut stream = connector.connect(name, stream).await?;
            hello(&mut stream).await?;
            secured.push(stream);
        }
    }
    print(&json!({ "connected": streams.len() + secured.len() }));
    stdin_ends().await;
    Ok(())
}
