//! Endpoints on loopback, and waiting.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use coalescent::identity::PublicKey;
use coalescent::{App, Mesh, PeerId};
use coalescent_iroh::{Iroh, Quiet};
use iroh::endpoint::{BindOpts, Builder};
use iroh::{Endpoint, SecretKey};

/// How long a condition may take before a test fails. Only failures take this long.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits for what must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// An endpoint to be on a free port of loopback, without a relay.
pub(crate) fn builder() -> Builder {
    let builder = Endpoint::builder(Quiet).clear_ip_transports();
    builder.bind_addr("127.0.0.1:0").expect("an address")
}

pub(crate) async fn endpoint() -> Endpoint {
    builder().bind().await.expect("an endpoint")
}

/// An endpoint to be on a free port of this address of loopback, whose packets reach the 256
/// addresses around it alone, as behind a router of its own.
pub(crate) fn in_subnet(addr: &str) -> Builder {
    let builder = Endpoint::builder(Quiet).clear_ip_transports();
    let subnet = BindOpts::default().set_prefix_len(24);
    builder
        .bind_addr_with_opts(addr, subnet)
        .expect("an address")
}

/// A secret key for a test that needs the same one twice.
pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

pub(crate) fn socket(endpoint: &Endpoint) -> SocketAddr {
    endpoint.bound_sockets()[0]
}

/// The address of an endpoint on loopback, with a hint where it is.
pub(crate) fn at(endpoint: &Endpoint) -> String {
    format!("iroh:{}?addr={}", endpoint.id(), socket(endpoint))
}

pub(crate) fn key(endpoint: &Endpoint) -> PeerId {
    PeerId::Key(PublicKey::from_bytes(*endpoint.id().as_bytes()).expect("a key"))
}

pub(crate) fn app(endpoint: &Endpoint) -> App {
    App::new().transport(Iroh::new(endpoint.clone()))
}

/// A node that listens.
pub(crate) async fn listening(app: App) -> Mesh {
    app.listen("iroh:").await.expect("a node that listens")
}

/// The program of an example, which `cargo test` has built.
pub(crate) fn example(name: &str) -> PathBuf {
    let mut path = env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "first run: cargo build --example {name}");
    path
}
