//! Nodes that find each other by multicast DNS, over real sockets. All of it stays on loopback, and
//! each test has a port of its own.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::net::TcpListener;
use std::time::Duration;

#[cfg(feature = "tls")]
use coalescent_core::{Address, Source};
use coalescent_core::{App, AppExt, Event, Mesh, NodeId};
use coalescent_layers::discovery::mdns::{MAX_INSTANCES, Mdns, PAUSE, SERVICE};
use mdns_sd::IfKind;
use mdns_sd::{ServiceDaemon, ServiceEvent};
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use support::{soon, until};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// A socket that sends to the group on loopback.
fn speaker() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.set_multicast_loop_v4(true).unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    socket.bind(&any.into()).unwrap();
    socket
}

/// Returns a port that no other test speaks mDNS at. Fails at once where these tests can't succeed.
fn free_port() -> u16 {
    let listener = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    listener.bind(&any.into()).unwrap();
    let port = listener.local_addr().unwrap().as_socket().unwrap().port();
    let joined = listener.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST);
    let sent =
        joined.and_then(|()| speaker().send_to(b"?", &SocketAddrV4::new(GROUP, port).into()));
    let timeout = Some(Duration::from_secs(5));
    listener.set_read_timeout(timeout).unwrap();
    let heard = sent.and_then(|_| listener.recv(&mut [MaybeUninit::uninit(); 1]));
    if let Err(error) = heard {
        panic!("the loopback interface of this machine carries no multicast: {error}");
    }
    port
}

/// Returns a network name that no other test has.
fn network() -> String {
    format!("test {}", NodeId::random())
}

fn app(network: &str) -> App {
    App::new().network(network).min_peers(1)
}

async fn node(network: &str, port: u16) -> Mesh {
    let app = app(network).plugin(Mdns::new().port(port));
    app.listen("127.0.0.1:0").await.unwrap()
}

async fn meets(mesh: &Mesh, other: &Mesh) {
    let id = other.id();
    until("the nodes have found each other", || {
        let peers = mesh.peers().list();
        peers.iter().any(|peer| peer.node_id() == Some(id))
    })
    .await;
}

#[tokio::test]
async fn two_nodes_meet_without_a_seed_and_others_stay_apart() {
    let mdns = free_port();
    let chess = network();
    // As long as a name can be, and longer than one value of a record.
    let go = format!("{:g<256}", network());
    let (alice, bob) = (node(&chess, mdns).await, node(&chess, mdns).await);
    let (carol, dave) = (node(&go, mdns).await, node(&go, mdns).await);
    for (one, other) in [(&alice, &bob), (&carol, &dave)] {
        meets(one, other).await;
        meets(other, one).await;
        // Both may have dialled; one connection stays.
        until("one connection", || {
            one.peers().len() == 1 && other.peers().len() == 1
        })
        .await;
    }
    let all = [alice, bob, carol, dave];
    assert_eq!(all.each_ref().map(|mesh| mesh.peers().len()), [1; 4]);
    for mesh in all {
        mesh.shutdown().await;
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn nodes_with_identities_meet_and_prove_their_keys() {
    use coalescent_core::identity::Identity;

    let (mdns, network) = (free_port(), network());
    let secure = async || {
        let app = app(&network).identity(Identity::generate());
        let app = app.plugin(Mdns::new().port(mdns));
        app.listen("127.0.0.1:0").await.unwrap()
    };
    let (alice, bob) = (secure().await, secure().await);
    let (carol, dave) = (node(&network, mdns).await, node(&network, mdns).await);
    for (one, other) in [(&alice, &bob), (&bob, &alice), (&carol, &dave)] {
        meets(one, other).await;
        until("one connection", || one.peers().len() == 1).await;
    }
    // The key was part of what was suggested, so it was demanded.
    for (mesh, key) in [(&alice, bob.public_key()), (&carol, None)] {
        let addr = soon("a suggestion", discovered(mesh)).await;
        assert_eq!(addr.id(), key);
    }
    for mesh in [alice, bob, carol, dave] {
        mesh.shutdown().await;
    }
}

/// Returns the first address that was suggested to the mesh.
#[cfg(feature = "tls")]
async fn discovered(mesh: &Mesh) -> Address {
    let mut events = mesh.events();
    loop {
        if let Event::Discovered { addr, source } = events.next().await.expect("the mesh goes on") {
            assert_eq!(source, Source::MDNS);
            return addr;
        }
    }
}

#[tokio::test]
async fn a_node_that_does_not_listen_finds_others_and_is_found_once_it_listens() {
    let mdns = free_port();
    let network = network();
    let local = || Mdns::new().interface(Ipv4Addr::LOCALHOST).port(mdns);
    let listening = app(&network).min_peers(0).plugin(local());
    let listening = listening.listen("127.0.0.1:0").await.unwrap();
    let late = app(&network).plugin(local()).start().await.unwrap();
    meets(&late, &listening).await;
    let searching = app(&network).min_peers(2).plugin(local());
    let searching = searching.start().await.unwrap();
    meets(&searching, &listening).await;
    assert_eq!(searching.peers().len(), 1);
    late.listen("127.0.0.1:0").await.unwrap();
    meets(&searching, &late).await;
    for mesh in [listening, late, searching] {
        mesh.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_leaves_says_goodbye() {
    let mdns = free_port();
    let observer = ServiceDaemon::new_with_port(mdns).unwrap();
    observer.disable_interface(IfKind::All).unwrap();
    observer.enable_interface(IfKind::LoopbackV4).unwrap();
    let events = observer.browse(SERVICE).unwrap();
    let mesh = node(&network(), mdns).await;
    let name = format!("{}.{SERVICE}", mesh.id());
    let next = async |event: fn(&ServiceEvent) -> Option<&str>| {
        let seen = async {
            loop {
                let next = events.recv_async().await.unwrap();
                if event(&next) == Some(&*name) {
                    return;
                }
            }
        };
        soon("the observer is told", seen).await;
    };
    next(|event| match event {
        ServiceEvent::ServiceResolved(service) => Some(service.get_fullname()),
        _ => None,
    })
    .await;
    mesh.shutdown().await;
    next(|event| match event {
        ServiceEvent::ServiceRemoved(_, name) => Some(name),
        _ => None,
    })
    .await;
    let ended = observer.shutdown().unwrap();
    soon("the observer ends", ended.recv_async()).await.unwrap();
}

/// Waits for the report of the plugin that it does not work.
async fn failure(mesh: &Mesh) -> String {
    let mut events = mesh.events();
    loop {
        match events.next().await.expect("the mesh goes on") {
            Event::Error { error, .. } if error.is_plugin() => return error.to_string(),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_hear_itself_says_so_once_and_goes_on() {
    let plugin = Mdns::new().interface("nosuch0");
    let mesh = App::new()
        .plugin(plugin)
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    let said = failure(&mesh).await;
    assert!(
        said.contains("has not heard itself within 5s") && said.contains("nosuch0"),
        "{said}"
    );
    let again = tokio::time::timeout(5 * PAUSE, failure(&mesh)).await;
    assert!(again.is_err(), "{again:?}");
    mesh.shutdown().await;
}

#[tokio::test]
async fn a_flood_of_announcements_is_forgotten() {
    let mdns = free_port();
    let mesh = node(&network(), mdns).await;
    let (speaker, to) = (speaker(), SocketAddrV4::new(GROUP, mdns).into());
    let flood = async {
        for round in 0_u32.. {
            let mut packet = Packet::default();
            for number in 0..100 {
                let host = labels(&format!("h{round}-{number}.local."));
                packet = packet.record(&host, 1, &[127, 0, 0, 1]);
            }
            speaker.send_to(&packet.bytes(), &to).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let said = tokio::select! {
        said = soon("the flood is noticed", failure(&mesh)) => said,
        () = flood => unreachable!("it goes on"),
    };
    assert!(
        said.contains("others announce more than 8192 records"),
        "{said}"
    );
    mesh.shutdown().await;
}

/// Records of DNS, as bytes.
#[derive(Default)]
struct Packet {
    answers: u16,
    body: Vec<u8>,
}

fn labels(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.');
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

impl Packet {
    fn record(mut self, name: &[u8], kind: u16, data: &[u8]) -> Self {
        self.answers += 1;
        self.body.extend(name);
        self.body.extend(kind.to_be_bytes());
        self.body.extend([0, 1, 0, 0, 0x11, 0x94]);
        let length = u16::try_from(data.len()).unwrap();
        self.body.extend(length.to_be_bytes());
        self.body.extend(data);
        self
    }

    /// Announces an instance at a port of 127.0.0.1.
    fn instance(self, name: &str, port: u16, txt: &[u8]) -> Self {
        let (full, host) = (
            labels(&format!("{name}.{SERVICE}")),
            labels(&format!("{name}.local.")),
        );
        let place = [&[0; 4], &port.to_be_bytes()[..], &host].concat();
        self.record(&labels(SERVICE), 12, &full)
            .record(&full, 33, &place)
            .record(&full, 16, txt)
            .record(&host, 1, &[127, 0, 0, 1])
    }

    fn bytes(self) -> Vec<u8> {
        let answers = self.answers.to_be_bytes();
        let header = [0, 0, 0x84, 0, 0, 0, answers[0], answers[1], 0, 0, 0, 0];
        [&header[..], &self.body].concat()
    }
}

fn txt(values: &[&str]) -> Vec<u8> {
    let string = |value: &&str| [&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    values.iter().flat_map(string).collect()
}

/// Answers to nothing, which lead to no dial.
fn hostile(network: &str, port: u16) -> Vec<Vec<u8>> {
    let id = NodeId::random();
    let (net, node) = (format!("net={network}"), format!("node={id}"));
    let alone = |name: &str, txt: &[u8]| Packet::default().instance(name, port, txt).bytes();
    let whole = alone("whole", &txt(&["net=another", &node]));
    let key = format!("key={}", "07".repeat(32));
    let mut packets = vec![
        Vec::new(),
        b"garbage".to_vec(),
        vec![0xff; 1400],
        vec![0; 12],
        alone("another", &txt(&["net=another", &node])),
        alone("keyed", &txt(&[&net, &node, &key])),
        alone("badkey", &txt(&[&net, &node, "key=xyz"])),
        alone("nonode", &txt(&[&net])),
        alone("shortnode", &txt(&[&net, "node=12"])),
        alone("nothing", &[]),
        alone("cut", &[200, b'n', b'e', b't']),
        alone("huge", &vec![0xff; 8000]),
        alone("many", &b"\x01a".repeat(3000)),
        alone(
            "\u{1b}[2J\n\u{202e}",
            &txt(&["net=\u{1b}[2J", "node=\u{202e}"]),
        ),
        Packet::default()
            .instance("port", 0, &txt(&[&net, &node]))
            .bytes(),
        // Names that point to themselves, and beyond the end.
        Packet::default()
            .record(&[0xc0, 12], 12, &[0xc0, 12])
            .bytes(),
        Packet::default()
            .record(&labels(SERVICE), 12, &[0xff, 0xff])
            .bytes(),
    ];
    for end in (0..whole.len()).step_by(7) {
        packets.push(whole[..end].to_vec());
    }
    // More instances than are considered, of another network.
    for number in 0..MAX_INSTANCES + 50 {
        packets.push(alone(&format!("i{number}"), &txt(&["net=another", &node])));
    }
    packets
}

#[tokio::test]
async fn hostile_announcements_lead_to_no_dial() {
    let mdns = free_port();
    let network = network();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let honest = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mesh = node(&network, mdns).await;
    // It listens to mDNS once it is heard.
    let second = node(&network, mdns).await;
    meets(&mesh, &second).await;
    second.shutdown().await;

    let (speaker, to) = (speaker(), SocketAddrV4::new(GROUP, mdns).into());
    let say = |packet: &[u8]| speaker.send_to(packet, &to).unwrap();
    for packet in hostile(&network, trap.local_addr().unwrap().port()) {
        say(&packet);
        // Sockets have a bounded queue.
        tokio::task::yield_now().await;
    }
    // The same with the right values is dialled: so the ones before were understood, and judged.
    let id = format!("node={}", NodeId::random());
    let values = txt(&[&format!("net={network}"), &id]);
    let port = honest.local_addr().unwrap().port();
    let honestly = Packet::default().instance("honest", port, &values).bytes();
    let repeated = async {
        loop {
            say(&honestly);
            tokio::select! {
                accepted = honest.accept() => return accepted.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    drop(soon("the honest one is dialled", repeated).await);

    trap.set_nonblocking(true).unwrap();
    assert_eq!(trap.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let third = node(&network, mdns).await;
    meets(&mesh, &third).await;
    mesh.shutdown().await;
    third.shutdown().await;
}
