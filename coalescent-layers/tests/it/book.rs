//! Nodes with address books: who is remembered, dialled and forgotten, and what becomes of the
//! file.

use std::path::Path;
use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::identity::PublicKey;
use coalescent_core::transport::Memory;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{Address, App, AppExt, BanTarget, Event, Events, Mesh, Source};
use coalescent_layers::discovery::book::{
    AddressBook, Book, FEELER_EVERY, Group, SAVE_EVERY, SAVE_SOON, Table,
};
use support::mesh::{addr, event};
use support::{ByHand, until};
use tokio::io::DuplexStream;
use tokio::time::{Instant, timeout};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn app(network: &Memory, book: AddressBook) -> App<impl coalescent_core::PeerLayer + use<>> {
    App::new()
        .transport(network.clone())
        .plugin(book)
        .configure(|config| config.min_peers = 1)
}

/// Starts a node that only listens.
async fn listen(network: &Memory, name: &str) -> Mesh {
    let app = App::new().transport(network.clone());
    app.listen(name).await.unwrap()
}

fn tried(book: &Book) -> usize {
    book.update(|table, _| table.tried_len())
}

/// Waits on paused time, in steps, for at most `limit`; returns how long it took.
async fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    let waited = timeout(limit, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "not in time: {what}");
    start.elapsed()
}

async fn discovered(events: &mut Events) -> (Address, Source) {
    event("a discovery", events, |event| match event {
        Event::Discovered { addr, source } => Some((addr, source)),
        _ => None,
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_node_that_restarts_comes_back_with_its_book_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.book");
    let network = Memory::new();
    let other = listen(&network, "other:1").await;
    let first = app(&network, AddressBook::new().file(&file)).seeds(["other:1"]);
    let first = first.start().await.unwrap();
    until("a peer", || first.peers().len() == 1).await;
    first.shutdown().await;
    drop(first);
    let saved = std::fs::read_to_string(&file).unwrap();
    assert!(saved.contains("\nanchor other:1\n"), "{saved}");
    until("nobody", || other.peers().is_empty()).await;

    let second = app(&network, AddressBook::new().file(&file));
    let second = second.start().await.unwrap();
    let mut events = second.events();
    assert_eq!(
        discovered(&mut events).await,
        (address("other:1"), Source::BOOK)
    );
    let took = within(Duration::from_secs(5), "a peer", || {
        second.peers().len() == 1
    })
    .await;
    println!("back after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_peer_is_saved_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.book");
    let network = Memory::new();
    let _other = listen(&network, "other:1").await;
    let node = app(&network, AddressBook::new().file(&file)).seeds(["other:1"]);
    let node = node.start().await.unwrap();
    let has = |text: &str| std::fs::read_to_string(&file).is_ok_and(|book| book.contains(text));
    within(Duration::from_secs(5), "the file", || has("tried other:1 ")).await;

    // What a seed answers follows soon; nothing but the time makes it be saved.
    let book: Book = node.get().unwrap();
    let source = Group::of(&address("other:1"));
    book.heard(&address("198.51.100.7:1"), &source);
    assert!(!has("new 198.51.100.7:1 "));
    let took = within(2 * SAVE_SOON, "the answer", || has("new 198.51.100.7:1 ")).await;
    println!("saved after {took:?}");

    // Later changes wait for their minute.
    for last in 0..8 {
        let later = format!("203.0.113.{last}:1");
        book.update(|table, now| table.dialled_ok(&address(&later), now));
        within(SAVE_EVERY + SAVE_SOON, "a change", || has(&later)).await;
    }
    book.update(|table, now| table.dialled_ok(&address("192.0.2.1:1"), now));
    let took = within(SAVE_EVERY + SAVE_SOON, "a change", || has("192.0.2.1:1")).await;
    assert!(took > SAVE_EVERY / 2, "{took:?}");
    node.abort().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_told_is_dialled_when_the_seed_has_gone() {
    let network = Memory::new();
    let seed = listen(&network, "seed:1").await;
    let third = listen(&network, "third:2").await;
    let book = Book::new();
    let node = app(&network, AddressBook::new().with_book(book.clone())).seeds(["seed:1"]);
    let node = node.start().await.unwrap();
    let mut events = node.events();
    until("the seed", || seed.peers().len() == 1).await;
    book.heard(&address("third:2"), &Group::of(&address("seed:1")));
    assert_eq!(third.peers().len(), 0, "one peer is enough");
    seed.shutdown().await;
    let took = within(Duration::from_secs(30), "the third", || {
        third.peers().len() == 1
    })
    .await;
    println!("healed after {took:?}");
    assert_eq!(
        discovered(&mut events).await,
        (address("third:2"), Source::PEERS)
    );
    until("both are tried", || tried(&book) == 2).await;
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_restart_without_a_seed_find_the_others() {
    const NODES: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let network = Memory::new();
    let name = |node: usize| format!("node-{node}:{}", node + 1);
    let start = async |node: usize, seed: Option<String>| {
        let book = AddressBook::new().file(folder.path().join(format!("{node}.book")));
        let app = app(&network, book).configure(|config| config.min_peers = 2);
        app.seeds(seed).listen(name(node)).await.unwrap()
    };
    let mut nodes = Vec::new();
    for node in 0..NODES {
        nodes.push(start(node, (node > 0).then(|| name(0))).await);
    }
    // As peers would tell each other.
    for (node, mesh) in nodes.iter().enumerate() {
        let book: Book = mesh.get().unwrap();
        for other in (0..NODES).filter(|other| *other != node) {
            book.heard(&address(&name(other)), &Group::of(&address(&name(0))));
        }
    }
    within(Duration::from_secs(60), "all have peers", || {
        nodes.iter().skip(1).all(|mesh| mesh.peers().len() >= 2)
    })
    .await;

    // The seed goes for good, and a third of the others come back with their books alone.
    nodes[0].shutdown().await;
    for (node, mesh) in nodes.iter_mut().enumerate().skip(1).step_by(3) {
        mesh.shutdown().await;
        *mesh = start(node, None).await;
    }
    let took = within(Duration::from_secs(60), "all have peers again", || {
        nodes.iter().skip(1).all(|mesh| mesh.peers().len() >= 2)
    })
    .await;
    println!("whole again after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_feeler_finds_out_who_is_there_and_makes_no_peer() {
    let network = Memory::new();
    let _seed = listen(&network, "seed:1").await;
    let third = listen(&network, "third:2").await;
    let book = Book::new();
    let node = app(&network, AddressBook::new().with_book(book.clone())).seeds(["seed:1"]);
    // No place is left for a peer that is exchanged.
    let node = node.max_peers(1).start().await.unwrap();
    until("the seed", || node.peers().len() == 1).await;
    let source = Group::of(&address("seed:1"));
    book.heard(&address("third:2"), &source);
    book.heard(&address("nobody:3"), &source);
    within(FEELER_EVERY * 20, "the third is tried", || {
        tried(&book) == 2
    })
    .await;
    assert_eq!((node.peers().len(), node.stats().received), (1, 0));
    until("the feeler has gone", || third.peers().is_empty()).await;
    // Who is not there is asked some times, and is never told to others.
    assert_eq!(book.tellable().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_to_dial_nobody_has_no_feelers() {
    let network = Memory::new();
    let third = listen(&network, "third:2").await;
    let book = Book::new();
    let node = app(&network, AddressBook::new().with_book(book.clone())).max_peers(0);
    let node = node.listen("node:1").await.unwrap();
    let guest = app(&network, AddressBook::new()).seeds(["node:1"]);
    let _guest = guest.start().await.unwrap();
    until("the guest", || node.peers().len() == 1).await;
    book.heard(&address("third:2"), &Group::of(&address("seed:1")));
    tokio::time::sleep(FEELER_EVERY * 20).await;
    assert_eq!((tried(&book), third.peers().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_may_not_dial_takes_no_turns() {
    let network = Memory::new();
    let third = listen(&network, "third:2").await;
    let book = Book::new();
    for n in 0..200 {
        let never = address(&format!("20.{n}.1.1:9"));
        book.heard(&never, &Group::of(&never));
    }
    book.heard(&address("third:2"), &Group::of(&address("seed:1")));
    let known = book.len();
    let node = app(&network, AddressBook::new().with_book(book.clone()));
    let _node = node.start().await.unwrap();
    within(Duration::from_secs(5), "the third", || {
        third.peers().len() == 1
    })
    .await;
    // Another configuration may allow them.
    assert_eq!(book.len(), known);
}

/// Joins a peer that is seen at this address, and says that it listens there at port 7.
async fn join_who_listens(mesh: &Mesh, seen: &str) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut peer = ByHand::new(near);
    let hello = Hello::new(peer.node, "").agent("a listener").listen(":7");
    let hello = hello.encode().unwrap();
    let info = ConnectionInfo::inbound().addr(seen.parse().unwrap());
    let introduce = async {
        peer.send(Kind::Hello, hello).await;
        peer.recv().await.expect("a hello")
    };
    let (_, joined) = tokio::join!(introduce, mesh.adopt(far, info));
    joined.expect("a peer");
    peer
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_where_it_listens_is_kept_only_if_it_may_be_dialled() {
    let network = Memory::new();
    for is_plain in [false, true] {
        let book = Book::new();
        let node = app(&network, AddressBook::new().with_book(book.clone()));
        let node = node.configure(|config| config.allow_plaintext = is_plain);
        let node = node.start().await.unwrap();
        let _far = join_who_listens(&node, "20.1.1.1:1").await;
        let _near = join_who_listens(&node, "127.0.0.1:1").await;
        let count = 1 + usize::from(is_plain);
        within(Duration::from_secs(5), "they are known", || {
            book.tellable().contains(&address("127.0.0.1:7"))
        })
        .await;
        assert_eq!(book.len(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_of_this_node_is_forgotten() {
    let network = Memory::new();
    let book = Book::new();
    let node = app(&network, AddressBook::new().with_book(book.clone()));
    let node = node.listen("self:1").await.unwrap();
    book.heard(&address("self:1"), &Group::of(&address("other:1")));
    within(Duration::from_secs(30), "it is forgotten", || {
        book.is_empty()
    })
    .await;
    assert!(node.peers().is_empty());
}

fn plugin_error(event: Event) -> Option<String> {
    match event {
        Event::Error { error, .. } if error.is_plugin() => Some(error.to_string()),
        _ => None,
    }
}

/// Starts a node whose book is at `path`, and returns it with the first error that it reports.
async fn with_bad_file(network: &Memory, path: &Path) -> (Mesh, String) {
    let node = app(network, AddressBook::new().file(path)).seeds(["other:1"]);
    let node = node.start().await.unwrap();
    let mut events = node.events();
    let error = event("an error", &mut events, plugin_error).await;
    until("a peer all the same", || node.peers().len() == 1).await;
    (node, error)
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_book_is_kept_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.book");
    let network = Memory::new();
    let _other = listen(&network, "other:1").await;
    std::fs::write(&file, "my notes").unwrap();
    let (node, error) = with_bad_file(&network, &file).await;
    println!("{error}");
    assert!(
        error.contains("is not used: it does not begin as one; it is kept as"),
        "{error}"
    );
    node.shutdown().await;
    assert_eq!(
        std::fs::read_to_string(folder.path().join("peers.book.bad")).unwrap(),
        "my notes"
    );
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("tried other:1 ")
    );

    std::fs::write(&file, "").unwrap();
    let (node, error) = with_bad_file(&network, &file).await;
    assert!(error.ends_with("is empty; a new one is begun"), "{error}");
    node.shutdown().await;
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("tried other:1 ")
    );
}

#[tokio::test(start_paused = true)]
async fn a_place_where_no_file_can_be_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let network = Memory::new();
    let _other = listen(&network, "other:1").await;
    let cases = [
        (folder.path().to_owned(), "is a directory; name a file"),
        (folder.path().join("none/peers.book"), "there is no folder"),
    ];
    for (path, said) in cases {
        let (node, error) = with_bad_file(&network, &path).await;
        println!("{error}");
        assert!(error.contains(said), "{error}");
        // Each later try to save fails with the same words.
        let mut events = node.events();
        let again = timeout(Duration::from_secs(200), async {
            while let Some(event) = events.next().await {
                assert_eq!(plugin_error(event), None);
            }
        });
        assert!(again.await.is_err(), "the mesh has ended");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_peer_says_of_where_it_listens_is_kept_with_its_proven_identity() {
    use coalescent_core::identity::Identity;

    let app = |identity: &Identity, book: &Book| {
        App::new()
            .identity(identity.clone())
            .plugin(AddressBook::new().with_book(book.clone()))
    };
    let (one, other) = (Identity::generate(), Identity::generate());
    let (ones, others) = (Book::new(), Book::new());
    let first = app(&one, &ones).listen("127.0.0.1:0").await.unwrap();
    let place = addr(&first);
    let second = app(&other, &others).seeds([place.clone()]);
    let second = second.listen("127.0.0.1:0").await.unwrap();
    until("both know each other", || {
        !ones.tellable().is_empty() && !others.tellable().is_empty()
    })
    .await;
    let known = |identity: &Identity, mesh: &Mesh| {
        let address: Address = addr(mesh).parse().unwrap();
        address.with_id(Some(identity.id()))
    };
    assert_eq!(others.tellable(), [known(&one, &first)]);
    assert_eq!(ones.tellable(), [known(&other, &second)]);
    assert_eq!((tried(&ones), tried(&others)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_is_banned_stays_so_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.book");
    let network = Memory::new();
    let node = || app(&network, AddressBook::new().file(&file)).start();
    let (junk, spam) = (
        BanTarget::from(PublicKey::from_bytes([7; 32]).unwrap()),
        "198.51.100.7".parse::<BanTarget>(),
    );
    let first = node().await.unwrap();
    let hour = Duration::from_secs(3600);
    first.ban(junk, hour, "junk").unwrap();
    first.ban(spam.unwrap(), hour / 2, "spam").unwrap();
    // Also without a shutdown.
    within(2 * SAVE_EVERY, "it is saved", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\nban "))
    })
    .await;
    first.abort().await;
    drop(first);

    let second = node().await.unwrap();
    let bans = second.bans();
    assert_eq!(bans.len(), 2);
    assert_eq!((bans[0].target(), bans[0].reason()), (junk, "junk"));
    assert!(bans[0].left() <= hour && bans[0].left() > hour / 2);
    assert!(second.unban(junk));
    second.shutdown().await;
    drop(second);
    let third = node().await.unwrap();
    assert_eq!(third.bans().len(), 1);

    // A forged file bans nobody for ever.
    let text = format!(
        "coalescent-book 1\nsecret {}\nban 198.51.100.9 {} 7 x\n",
        "0".repeat(32),
        u64::MAX
    );
    std::fs::write(&file, Table::with_checksum(text.as_bytes())).unwrap();
    let fourth = node().await.unwrap();
    assert_eq!(fourth.bans().len(), 1);
    assert_eq!(fourth.bans()[0].left().as_secs().div_ceil(3600), 24);
}
