//! Connections that do nothing.

use serde_json::json;
use tokio::io::AsyncReadExt;

use super::framing::Wire;
use crate::options::Options;
use crate::report::{self, Failed};
use crate::socket;
use crate::wire::hello;

/// The role that holds connections until its stdin ends.
///
/// # Errors
///
/// Where the server does not take as many.
pub async fn idle(options: &Options) -> Result<(), Failed> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let (addr, certificate) = options.addr.split_once(',').unwrap_or((&options.addr, ""));
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
    report::print(&json!({ "connected": streams.len() + secured.len() }));
    let mut stdin = tokio::io::stdin();
    let mut nothing = [0; 64];
    while matches!(stdin.read(&mut nothing).await, Ok(read) if read > 0) {}
    Ok(())
}
