//! Addresses that are suggested: who is dialled, and what is told of it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coalescent_core::transport::{BoxFuture, Connected, Listener, Memory, Transport};
use coalescent_core::wire::Kind;
use coalescent_core::{
    Address, App, AppExt, Event, Mesh, PeerLayer, Plugin, Registrar, Source, Suggestion,
};
use support::{on_the_wire, packet, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

const OURS: Source = Source::new("ours");

/// What was told of each dial: when, of which address, and what became of it.
#[derive(Clone, Debug, Default)]
struct Dials(Arc<Mutex<Vec<(Instant, String, String)>>>);

impl Plugin for Dials {
    fn register(&self, app: &mut Registrar) {
        let dials = self.clone();
        app.on_dial(move |dial| {
            let what = match dial.result() {
                Ok(_) => "peer",
                Err(error) if error.is_itself() => "itself",
                Err(error) if error.is_busy() => "busy",
                Err(error) if error.is_dial() => "nobody",
                Err(_) => "other",
            };
            let opened = dial.socket_addr().is_some();
            assert!(what == "other" || opened == (what != "nobody"));
            let text = format!("{} {what}", dial.source());
            let address = dial.address().to_string();
            let mut dials = dials.0.lock().unwrap();
            dials.push((Instant::now(), address, text));
        });
    }
}

impl Dials {
    fn of(&self, address: &str) -> Vec<String> {
        let dials = self.0.lock().unwrap();
        let of = dials.iter().filter(|(_, of, _)| of == address);
        of.map(|(.., what)| what.clone()).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn app(network: &Memory, dials: &Dials) -> App<impl PeerLayer + use<>> {
    App::new().transport(network.clone()).plugin(dials.clone())
}

async fn node(network: &Memory, addr: &str) -> Mesh {
    App::new()
        .transport(network.clone())
        .listen(addr)
        .await
        .unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn suggest(mesh: &Mesh, text: &str) {
    mesh.suggest(Suggestion::new(address(text), OURS));
}

/// Returns the addresses that were discovered by now.
async fn discovered(mesh: &Mesh, events: &mut coalescent_core::Events) -> Vec<String> {
    mesh.shutdown().await;
    let mut found = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Discovered { addr, source } = event {
            assert_eq!(source, OURS);
            found.push(addr.to_string());
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn live_suggestions_fill_the_places_of_dead_seeds() {
    let network = Memory::new();
    let dials = Dials::default();
    let here = app(&network, &dials)
        .seeds(["dead:91", "dead:92", "dead:93"])
        .start()
        .await
        .unwrap();
    let mut there = Vec::new();
    for port in 1..4 {
        there.push(node(&network, &format!("live:{port}")).await);
        suggest(&here, &format!("live:{port}"));
    }
    let since = Instant::now();
    until("three are connected", || here.peers().len() == 3).await;
    assert!(since.elapsed() < Duration::from_secs(3));
    assert_eq!(dials.of("live:1"), ["ours peer"]);
    assert!(dials.of("dead:91").iter().all(|what| what == "seed nobody"));
    // One that is lost comes back.
    there[0].abort().await;
    until("it is gone", || here.peers().len() == 2).await;
    there[0] = node(&network, "live:1").await;
    until("it is back", || here.peers().len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_dials_its_own_address_once() {
    let network = Memory::new();
    let dials = Dials::default();
    let here = app(&network, &dials).listen("here:7").await.unwrap();
    for _ in 0..3 {
        suggest(&here, "here:7");
        until("it was dialled", || dials.len() > 0).await;
        sleep(Duration::from_secs(600)).await;
    }
    assert_eq!(dials.of("here:7"), ["ours itself"]);
    assert!(here.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_looks_for_peers_is_told_how_many_are_wanted() {
    let network = Memory::new();
    let here = app(&network, &Dials::default()).min_peers(2);
    let here = here.start().await.unwrap();
    let mut wanted = here.wanted();
    assert_eq!(wanted.now(), 2);
    suggest(&here, "dead:91");
    assert_eq!(wanted.now(), 1, "it may be there");
    assert_eq!(soon("a change", wanted.changed()).await, Some(1));
    assert_eq!(soon("a failure", wanted.changed()).await, Some(2));
    let _one = node(&network, "live:1").await;
    let _two = node(&network, "live:2").await;
    suggest(&here, "live:1");
    suggest(&here, "live:2");
    until("two are connected", || here.peers().len() == 2).await;
    assert_eq!(wanted.now(), 0);
    here.add_seed("seed:9").unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(wanted.now(), 0);
    let mut last = wanted.clone();
    here.shutdown().await;
    assert_eq!(soon("the end", last.changed()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_probe_makes_no_peer() {
    let network = Memory::new();
    let there = App::new().transport(network.clone()).advertise("there:1");
    let there = there.listen("there:1").await.unwrap();
    let here = node(&network, "here:2").await;
    let mut events = here.events();
    let probe = here.probe(&address("there:1")).await.unwrap();
    assert_eq!(probe.node_id(), Some(there.peers().node_id()));
    assert_eq!(probe.listen(), Some("there:1"));
    assert_eq!(probe.agent(), Some(&*there.peers().config().agent));
    assert_eq!(probe.socket_addr(), Some(there.local_addrs()[0]));
    assert_eq!(probe.key(), None);
    until("it is gone", || there.peers().is_empty()).await;
    let itself = here.probe(&address("here:2")).await.unwrap_err();
    assert!(itself.is_itself(), "{itself}");
    let nobody = here.probe(&address("nobody:3")).await.unwrap_err();
    assert!(nobody.is_dial(), "{nobody}");
    // Also of one that is connected, which stays so.
    let peer = here.connect("there:1").await.unwrap();
    here.probe(&address("there:1")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(peer.is_connected() && there.peers().len() == 1);
    here.shutdown().await;
    let mut peers = 0;
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Error { .. }), "{event:?}");
        peers += usize::from(matches!(event, Event::PeerConnected { .. }));
    }
    assert_eq!(peers, 1);
}

/// A plugin whose hook panics.
struct Panics;

impl Plugin for Panics {
    fn register(&self, app: &mut Registrar) {
        app.on_dial(|dial| panic!("of {}", dial.address()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_stops_neither_dials_nor_other_hooks() {
    let network = Memory::new();
    let dials = Dials::default();
    let _there = node(&network, "live:1").await;
    let here = App::new().transport(network).plugin(Panics);
    let here = here.plugin(dials.clone()).start().await.unwrap();
    let mut events = here.events();
    suggest(&here, "dead:91");
    suggest(&here, "live:1");
    until("it is connected", || here.peers().len() == 1).await;
    until("both were dialled", || dials.len() >= 2).await;
    assert_eq!(dials.of("live:1"), ["ours peer"]);
    assert_eq!(dials.of("dead:91")[0], "ours nobody");
    let error = loop {
        if let Some(Event::Error { error, .. }) = soon("an error", events.next()).await {
            break error;
        }
    };
    assert!(
        error.is_panic() && error.to_string().contains("of "),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_address_is_discovered_once() {
    let network = Memory::new();
    let here = app(&network, &Dials::default()).seeds(["seed:9"]);
    let here = here.start().await.unwrap();
    let mut events = here.events();
    suggest(&here, "dead:91");
    suggest(&here, "dead:92");
    suggest(&here, "seed:9");
    let id = "ab".repeat(32);
    for refused in [format!("{id}@dead:93"), "198.51.100.7:1".to_owned()] {
        suggest(&here, &refused);
    }
    for _ in 0..20 {
        suggest(&here, "dead:91");
        // It is forgotten meanwhile.
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(discovered(&here, &mut events).await, ["dead:91", "dead:92"]);
}

#[tokio::test(start_paused = true)]
async fn two_names_of_one_node_are_one_peer() {
    let network = Memory::new();
    let dials = Dials::default();
    let there = node(&network, "there:1").await;
    let here = app(&network, &dials).start().await.unwrap();
    suggest(&here, "one:1");
    suggest(&here, "two:1");
    until("both were dialled", || dials.len() == 2).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!((here.peers().len(), there.peers().len()), (1, 1));
    assert_eq!(dials.of("one:1"), ["ours peer"]);
    assert_eq!(dials.of("two:1"), ["ours peer"]);
    assert_eq!(here.wanted().now(), 2);
    // Either brings it back.
    there.abort().await;
    until("it is gone", || here.peers().is_empty()).await;
    let there = node(&network, "there:1").await;
    until("it is back", || there.peers().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_seed_is_not_dialled_and_its_peer_stays() {
    let network = Memory::new();
    let dials = Dials::default();
    let there = node(&network, "there:1").await;
    let here = app(&network, &dials).seeds(["there:1", "dead:91"]);
    let here = here.start().await.unwrap();
    until("it is connected", || here.peers().len() == 1).await;
    until("the other was dialled", || !dials.of("dead:91").is_empty()).await;
    for seed in ["there:1", "dead:91"] {
        assert!(here.remove_seed(seed).unwrap());
        assert!(!here.remove_seed(seed).unwrap());
    }
    assert!(here.remove_seed("nonsense").unwrap_err().is_config());
    let before = dials.len();
    sleep(Duration::from_secs(600)).await;
    assert_eq!((here.peers().len(), dials.len()), (1, before));
    there.peers().list()[0].disconnect("enough");
    until("it is gone", || here.peers().is_empty()).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(dials.len(), before);
    here.add_seed("there:1").unwrap();
    until("it is connected again", || here.peers().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_peer_is_dialled_until_it_has_a_place() {
    let network = Memory::new();
    let dials = Dials::default();
    let mut busy = network.listen("busy:5").await.unwrap();
    let refuses = tokio::spawn(async move {
        loop {
            let mut io = busy.accept().await.unwrap().io;
            let bye = on_the_wire(&[packet(Kind::Bye, "busy")]);
            let _ = io.write_all(&bye).await;
            let _ = io.read_to_end(&mut Vec::new()).await;
        }
    });
    let here =
        app(&network, &dials).configure(|config| config.backoff_max = Duration::from_millis(500));
    let here = here.start().await.unwrap();
    suggest(&here, "busy:5");
    until("it was dialled often", || dials.len() >= 10).await;
    assert!(dials.of("busy:5").iter().all(|what| what == "ours busy"));
    refuses.abort();
    let _ = refuses.await;
    let _there = node(&network, "busy:5").await;
    until("it is connected", || here.peers().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_tells_many_addresses_makes_a_node_dial_one_a_second() {
    let network = Memory::new();
    let dials = Dials::default();
    let here = app(&network, &dials).start().await.unwrap();
    let since = Instant::now();
    for second in 0..100 {
        for at in 0..100 {
            suggest(&here, &format!("liar-{second}-{at}:91"));
        }
        sleep(Duration::from_secs(1)).await;
    }
    let took = since.elapsed().as_secs() as usize;
    assert!(dials.len() <= 8 + took, "{} in {took} s", dials.len());
    assert!(dials.len() >= took / 2);
}

/// A network in memory whose nodes seem to be far away: each name stands for an address of the
/// network 8.8/16, those that begin with `other` for one of 9.9/16.
struct Far(Memory);

impl Transport for Far {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.listen(addr)
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let net = if addr.host().starts_with("other") {
                9
            } else {
                8
            };
            let there = SocketAddr::from(([net, net, 0, addr.port() as u8], addr.port()));
            permit(there)?;
            let connected = self.0.connect(addr, &|_| Ok(())).await?;
            Ok(connected.addr(there))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_one_network_hold_one_place() {
    let network = Memory::new();
    let dials = Dials::default();
    let mut there = Vec::new();
    for port in 1..22 {
        there.push(node(&network, &format!("there:{port}")).await);
    }
    let here = App::new().transport(Far(network)).plugin(dials.clone());
    let here = here.allow_plaintext().start().await.unwrap();
    for port in 1..21 {
        suggest(&here, &format!("sybil:{port}"));
    }
    suggest(&here, "other:21");
    until("two are connected", || here.peers().len() == 2).await;
    sleep(Duration::from_secs(600)).await;
    let far = |mesh: &Mesh, net: &str| {
        let peers = mesh.peers().list();
        let addrs = peers.iter().filter_map(coalescent_core::Peer::addr);
        addrs
            .filter(|addr| addr.to_string().starts_with(net))
            .count()
    };
    assert_eq!((far(&here, "8.8."), far(&here, "9.9.")), (1, 1));
    assert!(dials.len() < 60, "{} dials", dials.len());
    // A seed is exempt, and when the one is gone, another has its turn.
    here.add_seed("seed:1").unwrap();
    until("the seed's node is one", || !dials.of("seed:1").is_empty()).await;
    let one = here.peers().list().iter().find_map(|peer| {
        let addr = peer.addr()?;
        addr.to_string().starts_with("8.8.").then(|| addr.port())
    });
    there[usize::from(one.unwrap()) - 1].abort().await;
    until("another is there", || far(&here, "8.8.") >= 1).await;
}

#[tokio::test]
async fn a_node_tells_which_addresses_it_may_dial() {
    let network = Memory::new();
    let id = "1".repeat(64);
    let told = [
        "127.0.0.1:1",
        "[::ffff:127.0.0.1]:1",
        "example.com:1",
        "198.51.100.1:1",
        "10.0.0.1:1",
        &format!("{id}@127.0.0.1:1"),
    ];
    for (is_plain, count) in [(false, 3), (true, 5)] {
        let app = App::new().transport(network.clone());
        let app = app.configure(|config| config.allow_plaintext = is_plain);
        let node = app.start().await.unwrap();
        let may = told.map(|text| node.may_dial(&text.parse().unwrap()));
        assert_eq!(may, std::array::from_fn(|at| at < count), "{is_plain}");
    }
}
