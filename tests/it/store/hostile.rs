//! Peers that answer with nonsense, never end, lie or stay silent: each costs its own connection at
//! most, and the others go on.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use coalescent::extract::{Body, Peer};
use coalescent::{
    AppExt, Courier, DisconnectReason, Event, Events, Mesh, MeshExt, Message, PeerExt, Router,
    SmartRelay,
};
use serde_json::json;
use support::internet::Internet;
use support::mesh::{disconnected, event, message};

use super::nodes::{Node, addr, app, within};
use super::replica::{ENTRIES_MAX, Entry, Write, place};

const SOON: Duration = Duration::from_secs(20);

/// What the asker sends along; the rest of it does not matter to a liar.
#[derive(serde::Deserialize)]
struct Asked {
    after: Option<String>,
}

/// Two honest nodes, the first of which a liar connects to.
struct Scene {
    internet: Internet,
    nodes: Vec<Node>,
}

impl Scene {
    async fn new() -> Self {
        let internet = Internet::new();
        let nodes = Node::line(&internet, 2).await;
        Self { internet, nodes }
    }

    /// What happens from now on at the node that the liar connects to, and at the other one.
    fn events(&self) -> [Events; 2] {
        [0, 1].map(|node| self.nodes[node].mesh.events())
    }

    /// Connects a peer that has these routes in place of a store's.
    async fn liar(&self, routes: Router) -> (Mesh, Peer) {
        let liar = app(&self.internet, 9, &[])
            .with(SmartRelay::new())
            .with(Courier::new())
            .with(routes)
            .start()
            .await
            .expect("a mesh");
        let peer = liar.connect(&addr(0)).await.expect("a peer");
        (liar, peer)
    }

    /// Has each of the honest nodes write what the other learns only if it asks.
    async fn goes_on(&self) {
        let (one, other) = (&self.nodes[0], &self.nodes[1]);
        one.set_unheard("one", "1").await;
        other.set_unheard("other", "2").await;
        let both = |node: &Node| node.has("one", "1") && node.has("other", "2");
        within("both learn it", SOON, || both(one) && both(other)).await;
        for node in [one, other] {
            assert_eq!(node.store.list().len(), 2, "{:?}", node.store.list());
        }
    }
}

fn entry(key: &str, time: u64, value: &str) -> Entry {
    let value = Some(value.to_owned());
    let (key, author) = (key.to_owned(), 1);
    Entry {
        key,
        write: Write {
            time,
            author,
            value,
        },
    }
}

async fn error_about(text: &str, events: &mut Events) {
    event(text, events, |event| match event {
        Event::Error { error, .. } => error.report().to_string().contains(text).then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_page_is_an_error_and_no_more() {
    // Text, a page of other things, and one that says it has four billion entries.
    let answers = [
        Message::new("store/page", "nonsense"),
        Message::new("store/page", &json!([{"key": "a", "write": {"time": -1}}])),
    ];
    let huge = Bytes::from_static(b"\x93\xaastore/page\xc0\xdd\xff\xff\xff\xff");
    let huge = Router::new().route("store/pull", move || std::future::ready(huge.clone()));
    let routes = answers.map(|answer| {
        let answer = move || std::future::ready(answer.clone());
        Router::new().route("store/pull", answer)
    });
    for routes in routes.into_iter().chain([huge]) {
        let scene = Scene::new().await;
        let [mut events, _] = scene.events();
        let (_liar, peer) = scene.liar(routes).await;
        error_about("decode", &mut events).await;
        scene.goes_on().await;
        assert!(peer.is_connected());
    }
}

#[tokio::test(start_paused = true)]
async fn whose_pages_go_round_in_a_circle_is_disconnected() {
    let page = [entry("a", u64::MAX, "1"), entry("a", u64::MAX, "2")];
    // One page that is out of order, and one that comes again and again.
    for page in [&page[..], &page[..1]] {
        let scene = Scene::new().await;
        let [mut events, _] = scene.events();
        let answer = Message::new("store/page", page);
        let answer = move || std::future::ready(answer.clone());
        let _liar = scene.liar(Router::new().route("store/pull", answer)).await;
        let (_, reason) = disconnected(&mut events).await;
        let DisconnectReason::Penalized(why) = reason else {
            panic!("{reason}")
        };
        assert!(why.contains("out of order"), "{why}");
        scene.goes_on().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whose_pages_never_end_is_disconnected() {
    let scene = Scene::new().await;
    let [mut events, _] = scene.events();
    // More than a store holds, in order, and from the far future: none of them fills the store.
    let keys = (0..2 * ENTRIES_MAX).map(|number| format!("{number}"));
    let mut keys: Vec<String> = keys.collect();
    keys.sort_by(|a, b| place(a).cmp(&place(b)));
    let told = Arc::new(AtomicUsize::new(0));
    let endless = {
        let told = Arc::clone(&told);
        async move |Body(asked): Body<Asked>| {
            let after = asked.after.as_deref();
            let from =
                keys.partition_point(|key| after.is_some_and(|after| place(key) <= place(after)));
            let page = keys[from..].iter().take(1_000);
            let page: Vec<Entry> = page.map(|key| entry(key, u64::MAX, "")).collect();
            told.fetch_add(page.len(), Relaxed);
            Message::new("store/page", &page)
        }
    };
    let _liar = scene.liar(Router::new().route("store/pull", endless)).await;
    let (_, reason) = disconnected(&mut events).await;
    assert!(matches!(reason, DisconnectReason::Penalized(_)), "{reason}");
    let told = told.load(Relaxed);
    assert!((ENTRIES_MAX..ENTRIES_MAX + 2_000).contains(&told), "{told}");
    scene.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn writes_of_the_far_future_and_of_any_length_are_taken_from_nobody() {
    let scene = Scene::new().await;
    let lies = [
        entry("one", u64::MAX, "lie"),
        entry("other", 1, &"v".repeat(10_000)),
    ];
    let mut page = lies.to_vec();
    page.sort_by(|a, b| place(&a.key).cmp(&place(&b.key)));
    let page = Message::new("store/page", &page);
    let answer = async move |Body(asked): Body<Asked>| match asked.after {
        None => page.clone(),
        Some(_) => Message::new("store/page", &json!([])),
    };
    let mut events = scene.events();
    let (liar, peer) = scene.liar(Router::new().route("store/pull", answer)).await;
    error_about("not taken from", &mut events[0]).await;
    for lie in &lies {
        let _ = liar.broadcast("store/entry", lie).await.expect("a mesh");
    }
    // Passed on, and refused, by each.
    for events in &mut events {
        error_about("in the future", events).await;
        error_about("a key has at most", events).await;
    }
    scene.goes_on().await;
    assert!(
        peer.is_connected(),
        "an honest relay, or a wrong clock, does no other"
    );
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_holds_up_nobody() {
    let scene = Scene::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let silent = {
        let asked = Arc::clone(&asked);
        async move || {
            asked.fetch_add(1, Relaxed);
            std::future::pending::<()>().await;
        }
    };
    let _liar = scene.liar(Router::new().route("store/pull", silent)).await;
    within("it is asked", SOON, || asked.load(Relaxed) > 0).await;
    scene.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn news_without_end_make_no_questions_without_end() {
    let scene = Scene::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let nothing = {
        let asked = Arc::clone(&asked);
        async move || {
            asked.fetch_add(1, Relaxed);
            Message::new("store/page", &json!([]))
        }
    };
    let (_liar, peer) = scene.liar(Router::new().route("store/pull", nothing)).await;
    for _ in 0..1_000 {
        peer.send("store/news", &()).await.expect("a peer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // At least a quarter of a second lies between two, and they do hurry.
    let asked = asked.load(Relaxed);
    assert!((10..=42).contains(&asked), "{asked} questions in 10 s");
    scene.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_to_everybody_is_answered_by_nobody() {
    let scene = Scene::new().await;
    scene.nodes[0].set("written", "1").await;
    let (liar, peer) = scene.liar(Router::new()).await;
    let question = json!({"have": [], "after": null});
    let page = peer.request("store/pull", &question).await.expect("a page");
    assert_eq!(page.kind(), "store/page");
    let (mut events, mut reader) = (scene.events(), liar.reader());
    let _ = liar
        .broadcast("store/pull", &question)
        .await
        .expect("a mesh");
    for events in &mut events {
        error_about("as a request", events).await;
    }
    // What came as a message of its own would be read before this.
    let last = scene.nodes[0].mesh.broadcast("last", &()).await;
    assert!(last.expect("a mesh").queued > 0);
    loop {
        let message = message(&mut reader).await;
        assert_ne!(message.kind(), "store/page");
        if message.kind() == "last" {
            return;
        }
    }
}
