//! People at home, behind routers that let nothing in that was not asked for: who reaches whom, and
//! by which way. With `--nocapture` the tests print how long it took.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use iroh_relay::server::{CertConfig, QuicConfig, RelayConfig, Server, ServerConfig, TlsConfig};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;

use crate::network::{case, run};
use crate::support::soon;

mod homes;
use homes::{AT_RANDOM, Home, KEPT, LONG, NEEDS, NETWORK, PRIVATE, PUBLIC, Person};

/// How often they talk on a way that is to last.
const OFTEN: usize = 50;

/// What a line begins with that the test outside prints.
const FIGURE: &str = "figure: ";

const HOMES: [Home; 2] = [Home(1), Home(2)];

/// A relay in the public network.
struct Relay {
    server: Server,
    url: String,
    directory: TempDir,
}

impl Relay {
    /// A relay that only carries.
    async fn plain() -> Self {
        let mut config = ServerConfig::default();
        config.relay = Some(RelayConfig::new(([0, 0, 0, 0], 80)));
        Self::spawn(config, format!("http://{PUBLIC}")).await
    }

    /// A relay that also tells those who ask from which address they do, over QUIC, with a
    /// certificate that it has signed itself.
    async fn with_address_discovery() -> Self {
        let names = vec![PUBLIC.to_owned()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate");
        let mut relay = RelayConfig::new(([0, 0, 0, 0], 80));
        let certificate = CertConfig::Manual { server_config: tls };
        relay.tls = Some(TlsConfig::new(([0, 0, 0, 0], 443), certificate));
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        config.quic = Some(QuicConfig::new(([0, 0, 0, 0], 7842)));
        let relay = Self::spawn(config, format!("https://{PUBLIC}")).await;
        std::fs::write(relay.certificate(), cert.pem()).expect("a file");
        relay
    }

    async fn spawn(config: ServerConfig, url: String) -> Self {
        let server = Server::spawn(config).await.expect("a relay");
        let directory = tempfile::tempdir().expect("a directory");
        Self {
            server,
            url,
            directory,
        }
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("relay.pem")
    }

    /// Starts both chats. Bob knows of alice her key alone.
    async fn chats(&self) -> Pair {
        let certificate = self.certificate();
        let mut words = vec![OsStr::new("--relay"), OsStr::new(&self.url)];
        if certificate.exists() {
            words.extend([OsStr::new("--relay-cert"), certificate.as_os_str()]);
        }
        let start = Instant::now();
        let mut alice = Home(1).chat("alice", &words);
        let address = alice.address().await;
        println!("{FIGURE}at the relay after {:?}", start.elapsed());
        let key = address.split('?').next().expect("a key");
        words.push(OsStr::new(key));
        let bob = Home(2).chat("bob", &words);
        let mut pair = Pair::new(alice, bob);
        pair.both_told("is here").await;
        pair
    }

    /// Tells whether it carries what they say now.
    async fn carries(&self, pair: &mut Pair) -> bool {
        let carried = || self.server.metrics().server.bytes_sent.get();
        let before = carried();
        pair.talk().await;
        carried() - before > LONG as u64
    }

    async fn stop(self) {
        self.server.shutdown().await.expect("an end");
    }
}

/// Two who chat.
struct Pair {
    alice: Person,
    bob: Person,
    /// How often they have talked.
    count: usize,
}

impl Pair {
    fn new(alice: Person, bob: Person) -> Self {
        Self {
            alice,
            bob,
            count: 0,
        }
    }

    async fn both_told(&mut self, what: &str) {
        self.alice.told(what).await;
        self.bob.told(what).await;
    }

    /// One says something, and the other answers.
    async fn talk(&mut self) {
        self.count += 1;
        let number = self.count;
        let (alice, bob) = (&mut self.alice, &mut self.bob);
        alice.say(&format!("this is {number}"), bob).await;
        bob.say(&format!("that was {number}"), alice).await;
    }

    /// Talks often, and prints the median of what that took.
    async fn talk_often(&mut self, way: &str) {
        let mut times = Vec::new();
        for _ in 0..OFTEN {
            let start = Instant::now();
            self.talk().await;
            times.push(start.elapsed());
        }
        times.sort();
        println!("{FIGURE}said and answered {way} in {:?}", times[OFTEN / 2]);
    }
}

#[tokio::test]
#[ignore = "runs in a network of its own, which the other tests make"]
async fn inside() {
    match &*case() {
        "by address" => by_address().await,
        "by a plain relay" => by_a_plain_relay().await,
        "through a hole" => through_a_hole().await,
        "one at random" | "both at random" => by_a_relay_to_its_end().await,
        other => panic!("no such case: {other}"),
    }
}

/// Bob knows all of alice's addresses, and they lead to her only once her router has been told.
async fn by_address() {
    let mut alice = Home(1).chat("alice", &[] as &[&str]);
    let address = alice.address().await;
    let (key, hints) = address.split_once('?').expect("hints");
    let private = format!("addr={PRIVATE}:");
    let port = hints
        .split('&')
        .find_map(|hint| hint.strip_prefix(&private));
    let port = port.and_then(|port| port.parse().ok()).expect("a port");
    let public = Home(1).address();
    let seed = format!("{key}?addr={PRIVATE}:{port}&addr={public}:{port}");
    let mut bob = Home(2).chat("bob", &[seed]);
    bob.told("no answer").await;
    assert!(Home(1).turned_away().await > 0);
    assert!(!alice.was_told("is here"));
    Home(1).forward(port).await;
    let mut pair = Pair::new(alice, bob);
    pair.both_told("is here").await;
    pair.talk().await;
}

/// Neither learns an address at which the other could be tried.
async fn by_a_plain_relay() {
    let relay = Relay::plain().await;
    let mut pair = relay.chats().await;
    for _ in 0..OFTEN {
        assert!(relay.carries(&mut pair).await);
    }
    pair.talk_often("by the relay").await;
    for home in HOMES {
        assert_eq!(home.turned_away().await, 0);
    }
}

/// Both send to where the relay sees the other, from the same port: each router then takes the
/// other's packets for answers.
async fn through_a_hole() {
    let relay = Relay::with_address_discovery().await;
    let mut pair = relay.chats().await;
    let start = Instant::now();
    soon("a direct way", async {
        while relay.carries(&mut pair).await {}
    })
    .await;
    println!("{FIGURE}directly after {:?}", start.elapsed());
    relay.stop().await;
    pair.talk_often("directly").await;
    assert!(!pair.alice.was_told("left") && !pair.bob.was_told("left"));
}

/// The port that the relay sees is for the relay alone: the other is turned away, and without the
/// relay nothing is left.
async fn by_a_relay_to_its_end() {
    let relay = Relay::with_address_discovery().await;
    let mut pair = relay.chats().await;
    for home in HOMES {
        soon("an attempt", async {
            while home.turned_away().await == 0 {}
        })
        .await;
    }
    for _ in 0..OFTEN {
        assert!(relay.carries(&mut pair).await);
    }
    relay.stop().await;
    let start = Instant::now();
    pair.both_told("left").await;
    println!(
        "{FIGURE}without the relay they part after {:?}",
        start.elapsed()
    );
}

/// Runs a case between two homes, whose routers choose ports in these ways.
fn check(case: &str, first: &str, second: &str) {
    let words = [OsStr::new(first), OsStr::new(second)];
    let Some(output) = run(NEEDS, NETWORK, &words, "nat::inside", case) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}:\n{text}\n{errors}");
    for figure in text.lines().filter_map(|line| line.strip_prefix(FIGURE)) {
        println!("{case}: {figure}");
    }
}

#[test]
fn an_address_leads_to_nobody_at_home_until_the_router_forwards_the_port() {
    check("by address", KEPT, KEPT);
}

#[test]
fn two_at_home_chat_by_key_through_a_relay() {
    check("by a plain relay", KEPT, KEPT);
}

#[test]
fn a_relay_that_tells_them_their_addresses_makes_itself_dispensable() {
    check("through a hole", KEPT, KEPT);
}

/// Both at once: each takes as long as an idle connection lasts.
#[test]
fn where_a_router_chooses_ports_at_random_the_relay_stays_the_only_way() {
    thread::scope(|scope| {
        scope.spawn(|| check("one at random", AT_RANDOM, KEPT));
        scope.spawn(|| check("both at random", AT_RANDOM, AT_RANDOM));
    });
}
