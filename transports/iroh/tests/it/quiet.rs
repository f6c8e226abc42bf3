//! Who is talked to: in a network whose only way out is watched, and leads nowhere.

use std::fs;
use std::time::Duration;

use coalescent::App;
use coalescent_iroh::{Iroh, Quiet};
use iroh::endpoint::presets::{Minimal, N0DisableRelay};
use iroh::{Endpoint, RelayMode};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::network::{case, run};
use crate::support::{app, at, endpoint, listening, soon};

/// Makes a network of its own with loopback and one interface, `out`, that all else leaves by, and
/// no name server: the first argument is an empty file. Then runs the rest of the arguments.
/// Nothing of the kernel's own leaves by it.
const NETWORK: &str = r#"
set -e
ip link set lo up
ip link add out type veth peer name end
for name in out end; do echo 1 >/proc/sys/net/ipv6/conf/$name/disable_ipv6; done
ip addr add 10.77.0.2/24 dev out
ip link set out up
ip link set end up
ip neigh add 10.77.0.1 lladdr 02:00:00:00:00:01 dev out nud permanent
ip route add default via 10.77.0.1
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
"#;

/// How long an endpoint is watched. iroh publishes within the first second.
const WATCHED: Duration = Duration::from_secs(5);

/// Returns how many packets have left this network.
fn left() -> u64 {
    let devices = fs::read_to_string("/proc/net/dev").expect("the devices");
    let out = devices
        .lines()
        .find_map(|line| line.trim().strip_prefix("out:"));
    let counters = out.expect("a device").split_whitespace();
    let sent = counters.skip(8).nth(1).expect("a counter");
    sent.parse().expect("a number")
}

/// Waits until something leaves, or it is time. Returns how many packets have left.
async fn watch() -> u64 {
    let end = Instant::now() + WATCHED;
    while Instant::now() < end && left() == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    left()
}

#[tokio::test]
#[ignore = "runs in a network of its own, which the other tests make"]
async fn inside() {
    assert_eq!(left(), 0);
    match &*case() {
        "quiet" => {
            let (there, here) = (endpoint().await, endpoint().await);
            let alice = listening(app(&there)).await;
            let bob = app(&here)
                .seeds([at(&there)])
                .start()
                .await
                .expect("a node");
            soon("a peer", alice.connected(1)).await.expect("a mesh");
            println!("left: {}", watch().await);
            bob.shutdown().await;
        }
        "everywhere" => {
            let endpoint = Endpoint::builder(Quiet).bind().await.expect("an endpoint");
            let _node = listening(app(&endpoint)).await;
            println!("left: {}", watch().await);
        }
        "name" => node(Endpoint::builder(Quiet).relay_mode(named())).await,
        "minimal name" => node(Endpoint::builder(Minimal).relay_mode(named())).await,
        "minimal" => node(Endpoint::builder(Minimal)).await,
        "n0" => node(Endpoint::builder(N0DisableRelay)).await,
        "relay" => {
            let mut config = ServerConfig::default();
            config.relay = Some(RelayConfig::new(([127, 0, 0, 1], 0)));
            let server = Server::spawn(config).await.expect("a relay");
            let relay = server.http_addr().expect("an address");
            let url = format!("http://{relay}").parse().expect("a URL");
            let builder = Endpoint::builder(Quiet);
            let endpoint = builder.relay_mode(RelayMode::custom([url])).bind().await;
            let endpoint = endpoint.expect("an endpoint");
            soon("the relay", endpoint.online()).await;
            let _node = listening(app(&endpoint)).await;
            println!("left: {}", watch().await);
        }
        other => panic!("no such case: {other}"),
    }
}

/// A relay whose name nobody can resolve.
fn named() -> RelayMode {
    RelayMode::custom(["https://relay.invalid".parse().expect("a URL")])
}

async fn node(builder: iroh::endpoint::Builder) {
    let endpoint = builder.bind().await.expect("an endpoint");
    let iroh = Iroh::new(endpoint);
    let address = iroh.address();
    let _node = App::new()
        .transport(iroh)
        .listen(&address)
        .await
        .expect("a node");
    println!("left: {}", watch().await);
}

/// Checks how many packets have left in that case.
fn check(case: &str, is_right: impl Fn(u64) -> bool) {
    let resolver = NamedTempFile::new().expect("a file");
    let words = [resolver.path().as_os_str()];
    let Some(output) = run("ip link", NETWORK, &words, "quiet::inside", case) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let count = text.lines().find_map(|line| line.strip_prefix("left: "));
    let count = count.and_then(|count| count.trim().parse().ok());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        count.is_some_and(is_right),
        "{case}: {count:?} packets left\n{text}\n{errors}"
    );
}

#[test]
fn two_nodes_talk_to_each_other_and_to_nobody_else() {
    check("quiet", |left| left == 0);
}

#[test]
fn an_endpoint_on_all_interfaces_talks_to_nobody() {
    check("everywhere", |left| left == 0);
    check("minimal", |left| left == 0);
}

#[test]
fn a_relay_of_the_users_choice_is_all_that_is_talked_to() {
    check("relay", |left| left == 0);
}

/// Without the preset of this crate, iroh asks public name servers if the system has none, or they
/// do not answer.
#[test]
fn the_name_of_a_relay_is_asked_of_the_systems_name_servers_alone() {
    check("name", |left| left == 0);
    check("minimal name", |left| left > 0);
}

/// Shows that the tests above can fail: this preset publishes the key to its makers' servers, with
/// the relay disabled too.
#[test]
fn an_endpoint_that_phones_home_is_seen() {
    check("n0", |left| left > 0);
}
