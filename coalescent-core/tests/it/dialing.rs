//! Who is dialled: names that stand for several addresses, for this node, for an echo, for one node
//! twice.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coalescent_core::transport::{BoxFuture, BoxIo, Connected, Listener, Tcp, Transport};
use coalescent_core::{Address, App, AppExt, Error, Event, Events, Flow, Mesh, Wire};
use support::{RelayLayer, soon, until};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// TCP, with names that stand for what a test says.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

impl Names {
    fn set(&self, name: &str, addrs: &[SocketAddr]) {
        let mut names = self.0.lock().unwrap();
        names.insert(name.to_owned(), addrs.to_vec());
    }
}

impl Transport for Names {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Tcp.listen(addr)
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        let addrs = self.0.lock().unwrap().get(addr.host()).cloned();
        Box::pin(async move {
            match addrs {
                Some(addrs) => Tcp.connect_any(addrs, permit).await,
                None => Tcp.connect(addr, permit).await,
            }
        })
    }
}

fn app(names: &Names, wire: &Wire) -> App<impl coalescent_core::PeerLayer + use<>> {
    let app = App::new().with(RelayLayer(Flow::Wait));
    let wire = wire.clone();
    app.transport(names.clone()).configure(move |config| {
        config.wire = wire;
        config.backoff = Duration::from_millis(20);
        config.backoff_max = Duration::from_millis(100);
    })
}

async fn listen(names: &Names, wire: &Wire) -> Mesh {
    app(names, wire).listen("127.0.0.1:0").await.unwrap()
}

fn addr(mesh: &Mesh) -> SocketAddr {
    mesh.local_addrs()[0]
}

/// The next error, where no peer comes before it.
async fn error(events: &mut Events) -> Arc<Error> {
    loop {
        match soon("an error", events.next()).await.expect("a mesh") {
            Event::Error { error, .. } => return error,
            Event::PeerConnected { peer } => panic!("a peer: {peer:?}"),
            _ => {}
        }
    }
}

fn wires() -> [Wire; 3] {
    [Wire::native(), Wire::lines(), Wire::raw()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_name_joins_the_others_of_that_name() {
    for wire in wires() {
        let names = Names::default();
        let other = listen(&names, &wire).await;
        let here = listen(&names, &wire).await;
        let mut events = here.events();
        names.set("service", &[addr(&here), addr(&other)]);
        here.add_seed("service:1").unwrap();
        let told = loop {
            let event = soon("an error", events.next()).await.expect("a mesh");
            match event {
                Event::Error { error, .. } => break error,
                Event::PeerConnected { peer } => assert_eq!(peer.addr(), Some(addr(&other))),
                _ => {}
            }
        };
        assert!(told.is_itself(), "{told}");
        until("it has joined", || {
            (here.peers().len(), other.peers().len()) == (1, 1)
        })
        .await;
        assert_eq!(here.peers().list()[0].addr(), Some(addr(&other)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_this_node_alone_is_told_once_and_tried_until_it_is_another() {
    for wire in wires() {
        let names = Names::default();
        let here = listen(&names, &wire).await;
        let mut events = here.events();
        names.set("service", &[addr(&here)]);
        here.add_seed("service:1").unwrap();
        let told = error(&mut events).await;
        assert!(told.is_itself(), "{told}");
        let error = here.connect("service:1").await.unwrap_err();
        assert!(error.is_itself() && error.is_refused(), "{error}");
        // Often enough that a peer would have shown, and a second word of it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(here.peers().is_empty());
        let other = listen(&names, &wire).await;
        names.set("service", &[addr(&other)]);
        until("it has joined", || other.peers().len() == 1).await;
        let event = soon("an event", events.next()).await;
        assert!(
            matches!(event, Some(Event::PeerConnected { .. })),
            "{event:?}"
        );
    }
}

/// Answers each connection with what it says, until it is dropped.
struct Echo(tokio::task::JoinHandle<()>);

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn echo() -> (SocketAddr, Echo) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }
    };
    (addr, Echo(tokio::spawn(task)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_is_told_and_dialled_again() {
    let names = Names::default();
    let (there, server) = echo().await;
    let here = listen(&names, &Wire::native()).await;
    let mut events = here.events();
    here.add_seed(&there.to_string()).unwrap();
    for _ in 0..2 {
        let told = error(&mut events).await;
        assert!(told.is_handshake() && !told.is_itself(), "{told}");
        assert!(told.to_string().contains("echo"), "{told}");
    }
    drop(server);
    let mut other = app(&names, &Wire::native()).listen(there.to_string()).await;
    while other.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        other = app(&names, &Wire::native()).listen(there.to_string()).await;
    }
    let other = other.unwrap();
    until("a peer is there", || other.peers().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_beside_an_echo_or_a_stranger_is_found() {
    let names = Names::default();
    let (echo, _server) = echo().await;
    // One that takes connections and closes them.
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = closing.local_addr().unwrap();
    let closes = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let other = listen(&names, &Wire::native()).await;
    for first in [echo, stranger] {
        let here = listen(&names, &Wire::native()).await;
        names.set("service", &[first, addr(&other)]);
        here.add_seed("service:1").unwrap();
        until("it is connected", || here.peers().len() == 1).await;
    }
    closes.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_of_one_address_are_one_connection() {
    for wire in [Wire::lines(), Wire::raw()] {
        let names = Names::default();
        let there = listen(&names, &wire).await;
        names.set("one", &[addr(&there)]);
        names.set("two", &[addr(&there)]);
        let here = app(&names, &wire)
            .seeds(["one:1", "two:1"])
            .start()
            .await
            .unwrap();
        until("they are connected", || {
            (here.peers().len(), there.peers().len()) == (1, 1)
        })
        .await;
        // It would go round and round by two connections.
        let _ = here.broadcast_payload("round").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((here.peers().len(), there.peers().len()), (1, 1));
        assert!(there.stats().relayed == 0 && here.stats().received == 0);
        // The end of the connection is that of both, and either comes again.
        let peer = there.peers().list()[0].clone();
        peer.disconnect("again");
        soon("the end", peer.closed()).await;
        until("they are connected again", || {
            (here.peers().len(), there.peers().len()) == (1, 1)
        })
        .await;
    }
}

/// Takes part in a mesh of wires without numbers as one peer, whatever it is called.
async fn stays_one_peer(here: &Mesh, there: &Mesh) {
    until("they are connected", || {
        (here.peers().len(), there.peers().len()) == (1, 1)
    })
    .await;
    // It would go round and round by two connections.
    let _ = here.broadcast_payload("round").await.unwrap();
    until("it is there", || there.stats().received > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((here.peers().len(), there.peers().len()), (1, 1));
    assert_eq!((there.stats().received, here.stats().received), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_names_of_this_machine_are_one_connection() {
    for wire in [Wire::lines(), Wire::raw()] {
        let names = Names::default();
        let there = listen(&names, &wire).await;
        let port = addr(&there).port();
        // The other address that stands for `localhost`, where this machine has it.
        let _ = there.listen(&format!("[::1]:{port}")).await;
        let here = app(&names, &wire).allow_plaintext();
        let here = here.start().await.unwrap();
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::1]"] {
            here.add_seed(&format!("{host}:{port}")).unwrap();
        }
        stays_one_peer(&here, &there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_to_which_the_application_has_connected_is_one_connection() {
    let names = Names::default();
    let there = listen(&names, &Wire::lines()).await;
    let here = listen(&names, &Wire::lines()).await;
    let place = addr(&there).to_string();
    let first = here.connect(&place).await.unwrap();
    here.add_seed(&place).unwrap();
    stays_one_peer(&here, &there).await;
    first.disconnect("the seed's turn");
    soon("the end", first.closed()).await;
    until("the seed is connected", || here.peers().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unspecified_address_is_this_node_too() {
    for wire in wires() {
        let names = Names::default();
        let here = app(&names, &wire).allow_plaintext();
        let here = here.listen("127.0.0.1:0").await.unwrap();
        let mut events = here.events();
        here.add_seed(&format!("0.0.0.0:{}", addr(&here).port()))
            .unwrap();
        let told = error(&mut events).await;
        assert!(told.is_itself(), "{wire}: {told}");
        assert!(here.peers().is_empty());
    }
}

/// TCP to this machine, which takes it for another: what a rule that forwards a port looks like.
#[derive(Clone, Copy, Debug, Default)]
struct Forwards;

impl Transport for Forwards {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Tcp.listen(addr)
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let there = SocketAddr::from(([127, 0, 0, 99], 1));
            permit(there)?;
            let stream = TcpStream::connect(("127.0.0.1", addr.port())).await?;
            Ok((Box::new(stream) as BoxIo, there).into())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_knows_itself_whichever_end_finds_out_first() {
    let here = App::new().transport(Forwards);
    let here = here.listen("127.0.0.1:0").await.unwrap();
    let place = addr(&here).to_string();
    for _ in 0..50 {
        let error = soon("an answer", here.connect(&place)).await.unwrap_err();
        assert!(error.is_itself(), "{error}");
    }
    assert!(here.peers().is_empty());
}

/// A transport whose sockets meet themselves, as the kernel's do by chance, as long as a test wants
/// it.
#[derive(Clone, Debug, Default)]
struct MeetsItself(Arc<AtomicBool>);

impl Transport for MeetsItself {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Tcp.listen(addr)
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            if !self.0.load(Ordering::SeqCst) {
                return Tcp.connect(addr, permit).await;
            }
            let there = SocketAddr::from(([127, 0, 0, 1], addr.port()));
            permit(there)?;
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(there)?;
            let stream = socket.connect(there).await?;
            Ok((Box::new(stream) as BoxIo, there).into())
        })
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_met_itself_is_no_peer_on_any_wire() {
    for wire in wires() {
        let place = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().to_string()
        };
        let met = MeetsItself::default();
        met.0.store(true, Ordering::SeqCst);
        let names = Names::default();
        let here = app(&names, &wire)
            .transport(met.clone())
            .seeds([place.clone()])
            .start()
            .await
            .unwrap();
        let told = error(&mut here.events()).await;
        assert!(
            told.report().to_string().contains("met itself"),
            "{wire}: {told}"
        );
        met.0.store(false, Ordering::SeqCst);
        // Nobody sits in the place of who should be there.
        let there = loop {
            match app(&names, &wire).listen(&place).await {
                Ok(there) => break there,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let both = || there.peers().len() == 1 && here.peers().len() == 1;
        until("both are connected", both).await;
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_are_back_soon_after_an_outage() {
    let network = coalescent_core::transport::Memory::new();
    let app = || App::new().transport(network.clone());
    let mut seed = app().listen("seed:1").await.unwrap();
    let mut leaves = Vec::new();
    for _ in 0..16 {
        leaves.push(app().seeds(["seed:1"]).start().await.unwrap());
    }
    for outage in [20, 60, 150] {
        until("all are there", || seed.peers().len() == leaves.len()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        seed.shutdown().await;
        tokio::time::sleep(Duration::from_secs(outage)).await;
        let since = tokio::time::Instant::now();
        seed = app().listen("seed:1").await.unwrap();
        until("all are back", || seed.peers().len() == leaves.len()).await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(6), "{outage}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_accepts_and_stays_silent_does_not_keep_a_name_from_its_others() {
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let names = Names::default();
    let there = listen(&names, &Wire::native()).await;
    let mut addrs: Vec<_> = silent.iter().map(|at| at.local_addr().unwrap()).collect();
    addrs.push(addr(&there));
    names.set("service", &addrs);
    let here = app(&names, &Wire::native())
        .configure(|config| config.handshake_timeout = Duration::from_millis(200));
    let here = here.start().await.unwrap();
    // By one dial.
    let peer = soon("a peer", here.connect("service:1")).await.unwrap();
    assert_eq!(peer.addr(), Some(addr(&there)));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn each_address_has_its_own_time() {
    let (port, _waiting) = swallower("0.0.0.0:0").await;
    let names = Names::default();
    let there = listen(&names, &Wire::native()).await;
    let swallows = (1..6).map(|last| SocketAddr::from(([127, 0, 0, last], port)));
    let mut addrs: Vec<_> = swallows.collect();
    addrs.push(addr(&there));
    names.set("service", &addrs);
    // The last is tried after 1.25 s.
    let here = app(&names, &Wire::native())
        .configure(|config| config.connect_timeout = Duration::from_millis(600));
    let here = here.start().await.unwrap();
    let peer = soon("a peer", here.connect("service:1")).await.unwrap();
    assert_eq!(peer.addr(), Some(addr(&there)));
    names.set("service", &addrs[..2]);
    let since = std::time::Instant::now();
    let error = here.connect("service:1").await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(850), "{took:?}");
}

/// A full queue of those who wait to be accepted: the kernel drops who comes then. Returns its
/// port, and what fills it.
#[cfg(target_os = "linux")]
async fn swallower(at: &str) -> (u16, (socket2::Socket, Vec<TcpStream>)) {
    use socket2::{Domain, Socket, Type};
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = at.parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let port = full.local_addr().unwrap().as_socket().unwrap().port();
    let mut waiting = Vec::new();
    loop {
        let connect = TcpStream::connect(("127.0.0.1", port));
        match tokio::time::timeout(Duration::from_millis(100), connect).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(waiting.len() < 64, "the queue does not fill");
    }
    (port, (full, waiting))
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_swallows_does_not_keep_a_name_from_its_others() {
    let (port, _waiting) = swallower("127.0.0.1:0").await;
    let swallows = SocketAddr::from(([127, 0, 0, 1], port));
    let names = Names::default();
    let there = listen(&names, &Wire::native()).await;
    names.set("service", &[swallows, swallows, addr(&there)]);
    let here = listen(&names, &Wire::native()).await;
    let since = std::time::Instant::now();
    here.connect("service:1").await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[cfg(target_os = "linux")]
mod silence {
    use coalescent_core::connection::ConnectionInfo;
    use socket2::SockRef;

    use super::*;

    /// TCP, with a second handle to each socket.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<socket2::Socket>>>);

    impl Kept {
        fn keep(&self, io: &BoxIo) {
            let any: &dyn std::any::Any = &**io;
            let stream = any.downcast_ref::<TcpStream>().expect("TCP");
            let socket = SockRef::from(stream).try_clone().unwrap();
            self.0.lock().unwrap().push(socket);
        }
    }

    struct Accepts(Box<dyn Listener>, Kept);

    impl Listener for Accepts {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }

        fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
            Box::pin(async move {
                let connected = self.0.accept().await?;
                self.1.keep(&connected.io);
                Ok(connected)
            })
        }
    }

    impl Transport for Kept {
        fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
            Box::pin(async move {
                let listener = Tcp.listen(addr).await?;
                Ok(Box::new(Accepts(listener, self.clone())) as Box<dyn Listener>)
            })
        }

        fn connect<'a>(
            &'a self,
            addr: &'a Address,
            permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
        ) -> BoxFuture<'a, io::Result<Connected>> {
            Box::pin(async move {
                let connected = Tcp.connect(addr, permit).await?;
                self.keep(&connected.io);
                Ok(connected)
            })
        }
    }

    #[tokio::test]
    async fn peers_that_cannot_be_asked_are_watched_by_the_kernel() {
        let kept = Kept::default();
        let app = || {
            App::new().transport(kept.clone()).configure(|config| {
                config.wire = Wire::lines();
                config.ping_every = Duration::from_secs(7);
                config.answer_within = Duration::from_secs(8);
            })
        };
        let there = app().listen("127.0.0.1:0").await.unwrap();
        let here = app().start().await.unwrap();
        here.connect(&addr(&there).to_string()).await.unwrap();
        until("they are connected", || there.peers().len() == 1).await;
        let stream = TcpStream::connect(addr(&there)).await.unwrap();
        let adopted = SockRef::from(&stream).try_clone().unwrap();
        here.adopt(stream, ConnectionInfo::outbound())
            .await
            .unwrap();
        until("all are connected", || there.peers().len() == 2).await;
        let mut sockets = std::mem::take(&mut *kept.0.lock().unwrap());
        assert_eq!(sockets.len(), 3, "one made, two accepted");
        sockets.push(adopted);
        for socket in sockets {
            let seconds = Duration::from_secs;
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(7));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(2));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(15)));
        }
    }

    #[tokio::test]
    async fn peers_that_are_asked_may_hold_back_as_long_as_they_like() {
        let kept = Kept::default();
        let app = || App::new().transport(kept.clone());
        let there = app().listen("127.0.0.1:0").await.unwrap();
        let here = app().start().await.unwrap();
        here.connect(&addr(&there).to_string()).await.unwrap();
        until("they are connected", || there.peers().len() == 1).await;
        for socket in &*kept.0.lock().unwrap() {
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_in_memory_knows_itself_too() {
    let network = coalescent_core::transport::Memory::new();
    for wire in wires() {
        let lines = wire.clone();
        let app = App::new()
            .transport(network.clone())
            .configure(move |config| config.wire = lines);
        let here = app.listen("here:0").await.unwrap();
        let addr = addr(&here).to_string();
        let error = here.connect(&addr).await.unwrap_err();
        assert!(error.is_itself(), "{wire}: {error}");
        assert!(here.peers().is_empty());
    }
}

#[tokio::test]
async fn an_echo_of_bytes_is_a_peer_where_nothing_tells() {
    // On a wire without numbers nobody can know better; and it costs no more than any peer.
    let (there, _server) = echo().await;
    let names = Names::default();
    let here = app(&names, &Wire::raw()).start().await.unwrap();
    here.connect(&there.to_string()).await.unwrap();
    let mut reader = here.reader();
    let _ = here.broadcast_payload("said").await.unwrap();
    let mut heard = [0; 4];
    soon("the echo", reader.read_exact(&mut heard))
        .await
        .unwrap();
    assert_eq!(&heard, b"said");
}
