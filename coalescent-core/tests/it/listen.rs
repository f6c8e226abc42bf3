//! Listening at a name that stands for several addresses.

use std::io;
use std::net::SocketAddr;

use coalescent_core::transport::{BoxFuture, Connected, Listener, Memory, Transport};
use coalescent_core::{Address, App, Event};

/// A network in which each name stands for two addresses: the port it says, and the next.
#[derive(Clone)]
struct TwoAddresses(Memory);

impl Transport for TwoAddresses {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.listen(addr)
    }

    fn listen_all<'a>(
        &'a self,
        addr: &'a str,
    ) -> BoxFuture<'a, io::Result<Vec<Box<dyn Listener>>>> {
        Box::pin(async move {
            let first = self.0.listen(addr).await?;
            let next = format!("next:{}", first.local_addr()?.port() + 1);
            Ok(vec![first, self.0.listen(&next).await?])
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        self.0.connect(addr, permit)
    }
}

#[tokio::test(start_paused = true)]
async fn peers_are_accepted_at_each_address_of_a_name() {
    let network = Memory::new();
    let mesh = App::new()
        .transport(TwoAddresses(network.clone()))
        .listen("name:70")
        .await
        .unwrap();
    let mut events = mesh.events();
    let ports: Vec<_> = mesh.local_addrs().iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [70, 71]);
    for addr in ["name:70", "name:71"] {
        let other = App::new().transport(network.clone()).start().await.unwrap();
        other.connect(addr).await.unwrap();
        other.shutdown().await;
    }
    // All of them, or none: a taken one is no silent half.
    let error = mesh.listen("name:69").await.unwrap_err();
    assert!(error.is_listen(), "{error}");
    assert_eq!(mesh.local_addrs().len(), 2);
    let last = mesh.listen("name:80").await.unwrap();
    assert_eq!(last.port(), 80);
    assert_eq!(mesh.local_addrs().len(), 4);
    mesh.shutdown().await;
    let mut ports = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Listening { addr } = event {
            ports.push(addr.port());
        }
    }
    assert_eq!(ports, [70, 71, 80, 81]);
}

#[tokio::test]
async fn localhost_is_listened_at_on_one_port() {
    let mesh = App::new().listen("localhost:0").await.unwrap();
    let addrs = mesh.local_addrs();
    // This machine's own names say how many there are.
    let known: Vec<_> = tokio::net::lookup_host("localhost:0")
        .await
        .unwrap()
        .collect();
    for addr in &addrs {
        assert!(known.iter().any(|known| known.ip() == addr.ip()), "{addr}");
        let other = App::new().start().await.unwrap();
        other.connect(&addr.to_string()).await.unwrap();
        other.shutdown().await;
    }
    assert!(!addrs.is_empty());
    assert!(
        addrs.iter().all(|addr| addr.port() == addrs[0].port()),
        "{addrs:?}"
    );
    mesh.shutdown().await;
}
