//! Addresses with schemes, and what each kind of transport is trusted with.

use std::io;
use std::net::SocketAddr;

use coalescent_core::identity::PublicKey;
use coalescent_core::test_util::{KeyNetwork, KeyNode, transport};
use coalescent_core::transport::{
    BoxFuture, Connected, Listener, Memory, Protection, Tcp, Transport,
};
use coalescent_core::{Address, App, Mesh, PeerId, Source, Suggestion};
use support::internet::Internet;
use support::until;

#[tokio::test]
async fn tcp_is_a_good_transport() {
    transport::check(Tcp, Tcp, "127.0.0.1:0").await;
}

#[tokio::test(start_paused = true)]
async fn networks_in_memory_are_good_transports() {
    let memory = Memory::new();
    transport::check(memory.clone(), memory, "alice:0").await;
    let internet = Internet::new();
    let [here, there] = ["203.0.113.1", "203.0.113.2"].map(|ip| {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        internet.host(ip)
    });
    transport::check(here, there, "203.0.113.1:7").await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_scheme_is_an_error_of_the_configuration() {
    let mesh = App::new().transport(Memory::new()).start().await.unwrap();
    let address: Address = "ws://example.com:1/mesh".parse().unwrap();
    let text = address.to_string();
    let expected = "\"ws://example.com:1/mesh\": the app has no transport for the scheme ws (it \
                    has tcp); add `App::transport(coalescent::websocket::Ws::new())`, of the \
                    feature `websocket`";
    for error in [
        App::new().seeds([&text]).start().await.unwrap_err(),
        App::new().listen(&text).await.unwrap_err(),
        mesh.listen(&text).await.unwrap_err(),
        mesh.connect(&text).await.unwrap_err(),
        mesh.add_seed(&text).unwrap_err(),
        mesh.probe(&address).await.unwrap_err(),
    ] {
        assert!(error.is_config(), "{error}");
        assert_eq!(error.report().to_string(), expected);
    }
    assert!(!mesh.may_dial(&address));
    mesh.suggest(Suggestion::new(address, Source::new("ours")));
    for (text, remedy) in [
        (format!("iroh:{}", "ab".repeat(32)), "coalescent-iroh"),
        ("unix:/run/chat.sock".to_owned(), "`App::transport`"),
        ("http://example.com".to_owned(), "`App::transport`"),
    ] {
        let error = mesh.connect(&text).await.unwrap_err().report().to_string();
        assert!(error.contains(remedy) && !error.contains('\n'), "{error}");
    }
    let long = format!("unix:/{}", "x".repeat(1000));
    assert!(
        mesh.connect(&long)
            .await
            .unwrap_err()
            .report()
            .to_string()
            .len()
            < 300
    );
}

#[tokio::test(start_paused = true)]
async fn a_transport_takes_the_place_of_one_of_its_scheme() {
    let (first, second) = (Memory::new(), Memory::new());
    let there = App::new().transport(second.clone());
    let there = there.listen("tcp://there:1").await.unwrap();
    let here = App::new().transport(first).transport(second);
    let here = here.start().await.unwrap();
    here.connect("tcp://there:1").await.unwrap();
    drop(there);
}

/// A transport without addresses, at `key:ID`, that is as trustworthy as it says. Only one that
/// proves keys gives some, unless it `lies`.
struct As {
    node: KeyNode,
    protection: Protection,
    lies: bool,
}

struct Accepts(Box<dyn Listener>, bool);

impl Transport for As {
    fn schemes(&self) -> &[&str] {
        self.node.schemes()
    }

    fn protection(&self, _scheme: &str) -> Protection {
        self.protection
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = self.node.listen(addr).await?;
            Ok(Box::new(Accepts(listener, self.lies)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let mut connected = self.node.connect(addr, permit).await?;
            connected.key = connected.key.filter(|_| self.lies);
            Ok(connected)
        })
    }
}

impl Listener for Accepts {
    fn address(&self) -> io::Result<Address> {
        self.0.address()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let mut connected = self.0.accept().await?;
            connected.key = connected.key.filter(|_| self.1);
            Ok(connected)
        })
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32]).unwrap()
}

fn app(network: &KeyNetwork, number: u8, protection: Protection, lies: bool) -> App {
    let node = network.node(key(number));
    App::new().transport(As {
        node,
        protection,
        lies,
    })
}

async fn connected(there: &Mesh) -> Result<PeerId, coalescent_core::Error> {
    let peer = there.connect(&format!("key:{}", key(7))).await?;
    Ok(*peer.id())
}

#[tokio::test(start_paused = true)]
async fn a_plain_transport_without_addresses_is_not_taken_for_loopback() {
    let network = KeyNetwork::new();
    let plain = |number| app(&network, number, Protection::Plain, true);
    assert!(plain(7).listen("key:").await.unwrap_err().is_plaintext());
    let here = plain(7).allow_plaintext().listen("key:").await.unwrap();
    let there = plain(8).start().await.unwrap();
    let error = connected(&there).await.unwrap_err();
    // It names a key that nobody proves there.
    assert!(error.is_config(), "{error}");
    assert!(!there.may_dial(&format!("key:{}", key(7)).parse().unwrap()));
    drop(here);
}

/// A transport that is not to be asked for connections.
struct Undialled;

impl Transport for Undialled {
    fn schemes(&self) -> &[&str] {
        &["own"]
    }

    fn listen<'a>(&'a self, _addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        panic!("{addr} was dialled")
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_needs_an_identity_is_not_even_dialled_without_one() {
    let mesh = App::new().transport(Undialled).start().await.unwrap();
    let error = mesh.connect("own:/place").await.unwrap_err();
    assert!(error.is_plaintext(), "{error}");
    assert!(!mesh.may_dial(&"own:/place".parse().unwrap()));
    assert!(mesh.listen("own:/place").await.unwrap_err().is_listen());
}

/// A transport that has no secrets, says that it has, and asks for no permission.
struct Careless(&'static str, Protection);

impl Transport for Careless {
    fn schemes(&self) -> &[&str] {
        std::slice::from_ref(&self.0)
    }

    fn protection(&self, _scheme: &str) -> Protection {
        self.1
    }

    fn listen<'a>(&'a self, _addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async {
            let (near, far) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let _kept = support::ByHand::connect(far).await;
                std::future::pending::<()>().await;
            });
            let there = addr.socket_addr().unwrap_or(([203, 0, 113, 7], 7).into());
            Ok(Connected::new(near).addr(there))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_does_not_ask_gets_no_further_than_is_permitted() {
    let app = App::new().transport(Careless("own", Protection::Plain));
    let mesh = app.start().await.unwrap();
    mesh.connect("own://127.0.0.1:7").await.unwrap();
    let error = mesh.connect("own://example.com").await.unwrap_err();
    assert!(error.is_plaintext(), "{error}");
}

#[tokio::test]
async fn a_bare_socket_is_not_taken_for_one_of_what_the_app_has_in_place_of_tcp() {
    let socket = || std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    for protection in [Protection::Plain, Protection::Local, Protection::Encrypted] {
        let app = App::new().transport(Careless("tcp", protection));
        let mesh = app.start().await.unwrap();
        let error = mesh.listen_on(socket()).unwrap_err();
        assert!(error.is_plaintext(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_allow_list_holds_on_every_transport_of_an_app() {
    let network = KeyNetwork::new();
    let here = App::new()
        .transport(network.node(key(7)))
        .transport(Memory::new())
        .transport(Careless("own", Protection::Encrypted))
        .allow([key(8)]);
    let here = here.listen("key:").await.unwrap();
    let from = SocketAddr::from(([127, 0, 0, 1], 7));
    for error in [
        here.listen("here:1").await.unwrap_err(),
        here.connect("there:1").await.unwrap_err(),
        here.connect("own://127.0.0.1:7").await.unwrap_err(),
        here.accept(tokio::io::duplex(64).0, from)
            .await
            .unwrap_err(),
    ] {
        assert!(
            error.is_config() && error.report().to_string().contains("identity"),
            "{error}"
        );
    }
    let stranger = App::new().transport(network.node(key(9)));
    let stranger = stranger.start().await.unwrap();
    assert!(connected(&stranger).await.is_err());
    let friend = App::new().transport(network.node(key(8)));
    assert_eq!(
        connected(&friend.start().await.unwrap()).await.unwrap(),
        PeerId::Key(key(7))
    );
    // Without a list, whoever proves no key is welcome.
    let open = App::new().transport(network.node(key(6)));
    let open = open.transport(Memory::new()).start().await.unwrap();
    open.listen("here:1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_on_the_machine_needs_nothing_and_is_not_counted_by_address() {
    let network = KeyNetwork::new();
    let local = |number| app(&network, number, Protection::Local, false);
    let here = local(7).configure(|config| config.max_per_ip = 1);
    let here = here.listen("key:").await.unwrap();
    for number in 8..12 {
        let node = As {
            node: network.node(key(number)),
            protection: Protection::Local,
            lies: false,
        };
        let address: Address = format!("key:{}", key(7)).parse().unwrap();
        let connected = node.connect(&address, &|_| Ok(())).await.unwrap();
        let by_hand = support::ByHand::connect(connected.io);
        tokio::spawn(async move {
            let _kept = by_hand.await;
            std::future::pending::<()>().await;
        });
    }
    until("all of them", || here.peers().len() == 4).await;
    let peer = here.peers().list()[0].clone();
    assert_eq!(
        peer.address().unwrap().to_string(),
        format!("key:{}", key(7))
    );
    assert!(matches!(peer.id(), PeerId::Node(_)));
}

#[tokio::test(start_paused = true)]
async fn one_that_says_it_proves_keys_and_gives_none_has_no_peers() {
    let network = KeyNetwork::new();
    let here = app(&network, 7, Protection::Keys, true);
    let here = here.listen("key:").await.unwrap();
    let there = app(&network, 8, Protection::Keys, false);
    let error = connected(&there.start().await.unwrap()).await.unwrap_err();
    assert!(
        error.is_handshake() && error.report().to_string().contains("which key"),
        "{error}"
    );
    let honest = app(&network, 9, Protection::Keys, true);
    let honest = honest.start().await.unwrap();
    assert_eq!(connected(&honest).await.unwrap(), PeerId::Key(key(7)));
    drop(here);
}

#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn tls_is_spoken_over_all_that_prove_no_keys() {
    use coalescent_core::identity::Identity;

    for protection in [Protection::Plain, Protection::Local, Protection::Encrypted] {
        let network = KeyNetwork::new();
        let (ours, theirs) = (Identity::generate(), Identity::generate());
        let node = |key: PublicKey| As {
            node: network.node(key),
            protection,
            lies: false,
        };
        let here = App::new().identity(ours.clone()).transport(node(ours.id()));
        let here = here.listen("key:").await.unwrap();
        let there = App::new().identity(theirs.clone());
        let there = there.transport(node(theirs.id())).start().await.unwrap();
        let peer = there.connect(&format!("key:{}", ours.id())).await.unwrap();
        assert_eq!(peer.id().key(), Some(ours.id()));
        until("a peer", || here.peers().len() == 1).await;
        assert_eq!(here.peers().list()[0].id().key(), Some(theirs.id()));
    }
}
