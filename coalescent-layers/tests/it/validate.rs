//! Frames are judged before they are relayed, on paused time.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use coalescent_core::test_util::conformance::{Conformance, check};
use coalescent_core::test_util::{self, MemoryMesh, Nodes, Recorder};
use coalescent_core::transport::Memory;
use coalescent_core::wire::Kind;
use coalescent_core::{
    App, AppExt, BoxError, Config, Event, Frame, Mesh, PeerLayer, Peers, Reply, Stats, Verdict,
};
use coalescent_layers::{Courier, MeshExt, SmartRelay, Tattletale, Validate};
use support::memory::{Lines, node, refuse};
use tokio::time::{Instant, sleep};
use tokio_test::task::spawn;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// Above the error budget of a minute.
const FATAL: u32 = 101;

/// Judges by what a frame says.
fn by_word(frame: &Frame) -> Verdict {
    let says = |word: &str| frame.payload().starts_with(word.as_bytes());
    if says("bad") {
        Verdict::reject()
    } else if says("odd") {
        Verdict::Ignore
    } else {
        Verdict::Accept
    }
}

/// A handler that takes a minute.
fn slow<S>() -> impl Layer<S, Service = BoxCloneService<Frame, Reply, BoxError>> + Clone
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    tower::layer::layer_fn(|inner: S| {
        BoxCloneService::new(service_fn(move |frame: Frame| {
            let inner = inner.clone();
            async move {
                sleep(60 * SECOND).await;
                inner.oneshot(frame).await.map_err(Into::into)
            }
        }))
    })
}

/// Everything that arrived is somewhere.
#[track_caller]
fn check_sum(mesh: &Mesh) -> Stats {
    let stats = mesh.stats();
    let sum = stats.relayed + stats.duplicates + stats.dropped + stats.withheld;
    assert_eq!(stats.received, sum, "{stats:?}");
    stats
}

async fn line<L: PeerLayer>(app: impl Fn(App) -> App<L>) -> Nodes {
    MemoryMesh::new(3).line().start(|_, one| app(one)).await
}

/// What the last node of three hears, if the first says these.
async fn through<L: PeerLayer>(app: impl Fn(App) -> App<L>, says: &[&'static str]) -> Vec<String> {
    let nodes = line(app).await;
    let mut recorder = nodes.recorder(2);
    for said in says {
        let _ = nodes[0].broadcast_payload(*said).await.unwrap();
    }
    let mut heard = Vec::new();
    let until = Instant::now() + 5 * SECOND;
    while let Ok(frame) = tokio::time::timeout_at(until, recorder.expect_frame()).await {
        heard.push(String::from_utf8_lossy(frame.payload()).into_owned());
        if heard.len() == says.iter().filter(|said| **said == "good").count() {
            break;
        }
    }
    recorder.expect_nothing().await;
    check_sum(&nodes[1]);
    assert_eq!(nodes[1].peers().len(), 2);
    heard
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_is_relayed_before_a_slow_handler_ends() {
    macro_rules! check {
        ($relay:expr, $validate:expr) => {{
            let app = |app: App| app.with($relay).with($validate).layer(slow());
            let nodes = line(app).await;
            // The last node would hear it from a slow handler too.
            let reached = nodes[2].stats().received;
            let start = Instant::now();
            let _ = nodes[0].broadcast_payload("good").await.unwrap();
            while nodes[2].stats().received == reached {
                sleep(Duration::from_millis(10)).await;
            }
            assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
            assert_eq!(nodes[1].stats().delivered, 0);
            nodes.settled().await;
            sleep(120 * SECOND).await;
            assert_eq!(nodes[1].stats().delivered, 1);
            check_sum(&nodes[1]);
        }};
    }
    let later = || {
        Validate::new(async |_: Frame| {
            sleep(Duration::from_millis(50)).await;
            Verdict::Accept
        })
    };
    check!(SmartRelay::new(), Validate::sync(by_word));
    check!(SmartRelay::new(), later());
    check!(Tattletale::new(), Validate::sync(by_word));
    check!(Tattletale::new(), later());
}

#[tokio::test(start_paused = true)]
async fn only_what_is_accepted_is_relayed() {
    const SAYS: &[&str] = &["good", "odd", "bad", "good"];
    let later = || {
        Validate::new(async |frame: Frame| {
            sleep(SECOND).await;
            by_word(&frame)
        })
    };
    let now = || Validate::new(async |frame: Frame| by_word(&frame));
    let sync = || Validate::sync(by_word);
    macro_rules! check {
        ($($relay:expr),*) => {$(
            assert_eq!(through(|app| app.with($relay).with(later()), SAYS).await.len(), 2);
            assert_eq!(through(|app| app.with($relay).with(now()), SAYS).await.len(), 2);
            assert_eq!(through(|app| app.with($relay).with(sync()), SAYS).await.len(), 2);
        )*};
    }
    check!(
        SmartRelay::new(),
        Tattletale::new(),
        SmartRelay::new().relay_after(),
        Tattletale::new().relay_after(),
        SmartRelay::new().validated(),
        Tattletale::new().validated()
    );
    // Outside of a relay, it keeps from it what it does not accept.
    let heard = through(|app| app.with(sync()).with(SmartRelay::new()), SAYS).await;
    assert_eq!(heard.len(), 2);
    // As a mere layer it must be announced.
    let heard = through(
        |app| app.layer(SmartRelay::new().validated()).layer(later()),
        SAYS,
    )
    .await;
    assert_eq!(heard.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_relay_after_what_is_accepted_must_be_handled_as_well() {
    let app = |app: App| {
        app.with(SmartRelay::new().relay_after())
            .with(Validate::sync(by_word))
            .layer(refuse("goodbye"))
    };
    assert_eq!(through(app, &["good", "odd", "goodbye"]).await, ["good"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_layer_judges_is_not_relayed() {
    let app = |app: App| app.with(SmartRelay::new().validated());
    let nodes = line(app).await;
    let mut last = nodes.recorder(2);
    let _ = nodes[0].broadcast_payload("good").await.unwrap();
    last.expect_nothing().await;
    assert_eq!(check_sum(&nodes[1]).withheld, 1);
    assert_eq!(nodes[1].stats().delivered, 1, "it is handled");
}

#[tokio::test(start_paused = true)]
async fn a_layer_of_ones_own_can_judge_from_another_task() {
    let by_hand = || {
        tower::layer::layer_fn(|_inner| {
            service_fn(async |frame: Frame| {
                let judge = frame.clone();
                let judging = tokio::spawn(async move {
                    sleep(SECOND).await;
                    judge.judge(by_word(&judge));
                });
                // The call goes on for longer.
                sleep(60 * SECOND).await;
                judging.await.map_err(BoxError::from)?;
                Ok::<_, BoxError>(Reply::None)
            })
        })
    };
    let nodes = line(|app| app.with(SmartRelay::new().validated()).layer(by_hand())).await;
    let start = Instant::now();
    for said in ["good", "odd"] {
        let _ = nodes[0].broadcast_payload(said).await.unwrap();
    }
    while nodes[2].stats().received == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    sleep(200 * SECOND).await;
    let stats = check_sum(&nodes[1]);
    assert_eq!((stats.relayed, stats.withheld), (1, 1));
}

/// Calls its inner service with each word, as a frame of its own.
fn words<S>() -> impl Layer<S, Service = BoxCloneService<Frame, Reply, BoxError>> + Clone
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    tower::layer::layer_fn(|inner: S| {
        BoxCloneService::new(service_fn(move |frame: Frame| {
            let inner = inner.clone();
            async move {
                let text = String::from_utf8_lossy(frame.payload()).into_owned();
                for word in text.split(' ') {
                    let part = frame.derive(word.to_owned());
                    inner.clone().oneshot(part).await.map_err(Into::into)?;
                }
                Ok(Reply::None)
            }
        }))
    })
}

#[tokio::test(start_paused = true)]
async fn derived_frames_are_judged_one_by_one() {
    let app = |app: App| {
        app.layer(words())
            .with(SmartRelay::new())
            .with(Validate::sync(by_word))
    };
    let nodes = line(app).await;
    let mut last = nodes.recorder(2);
    for said in ["good odd good", "odd", "odd odd"] {
        let _ = nodes[0].broadcast_payload(said).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(last.expect_frame().await.payload(), b"good");
    }
    last.expect_nothing().await;
    let stats = check_sum(&nodes[1]);
    assert_eq!((stats.relayed, stats.withheld), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn who_sends_what_is_rejected_is_disconnected_in_the_end() {
    let app = |app: App| app.with(SmartRelay::new()).with(Validate::sync(by_word));
    let nodes = line(app).await;
    let mut events = nodes[1].events();
    for number in 0..5 {
        let _ = nodes[0].broadcast_payload(format!("bad {number}")).await;
        nodes.settled().await;
    }
    assert_eq!(nodes[1].peers().len(), 2, "5 × 20 is not above 100");
    let first = nodes.peer(1, 0);
    let _ = nodes[0].broadcast_payload("bad, once more").await;
    first.closed().await;
    assert_eq!(nodes[1].peers().len(), 1);
    let mut penalties = 0;
    while let Ok(Some(event)) = tokio::time::timeout(SECOND, events.next()).await {
        if let Event::Error { error, .. } = event {
            assert!(error.is_penalty(), "{error}");
            penalties += 1;
        }
    }
    assert_eq!(penalties, 6);
    assert_eq!(nodes[2].stats().received, 0);
    assert_eq!(check_sum(&nodes[1]).withheld, 6);
}

/// A node whose check takes a second, and counts how often it is asked.
async fn hub(
    verdict: impl Fn(usize) -> Verdict + Clone + Send + Sync + 'static,
) -> (Mesh, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let validate = Validate::new(move |_: Frame| {
        let verdict = verdict(count.fetch_add(1, SeqCst));
        async move {
            sleep(SECOND).await;
            verdict
        }
    });
    let app = App::new().with(SmartRelay::new()).with(validate);
    (node(&Memory::new(), "hub:1", app).await, asked)
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_copy_while_the_verdict_is_open_shares_it() {
    let (mesh, asked) = hub(|_| Verdict::Reject(FATAL)).await;
    let (mut alice, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    let (mut carol, _) = Lines::connect(&mesh).await;
    alice.say("beep\n").await;
    bob.say("beep\n").await;
    sleep(3 * SECOND).await;
    assert!(!alice.is_open().await);
    assert!(!bob.is_open().await);
    // The verdict is there: she may have got it from one who did not know better.
    carol.say("beep\n").await;
    sleep(3 * SECOND).await;
    assert!(carol.is_open().await);
    assert_eq!(asked.load(SeqCst), 1);
    let stats = mesh.stats();
    assert_eq!((stats.duplicates, stats.withheld), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn copies_are_relayed_once_when_the_frame_is_accepted() {
    let (mesh, asked) = hub(|_| Verdict::Accept).await;
    let (mut alice, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    let (mut carol, _) = Lines::connect(&mesh).await;
    let mut recorder = Recorder::of(&mesh);
    alice.say("beep\n").await;
    bob.say("beep\n").await;
    sleep(3 * SECOND).await;
    assert_eq!(carol.heard().await, ["beep"]);
    assert_eq!(bob.heard().await, ["beep"]);
    assert!(alice.heard().await.is_empty());
    recorder.expect_frame().await;
    recorder.expect_nothing().await;
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_transient_failure_a_later_copy_is_judged_and_heard_once() {
    let first_fails = |asked| match asked {
        0 => Verdict::Retry,
        _ => Verdict::Accept,
    };
    let (mesh, asked) = hub(first_fails).await;
    let (mut alice, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    let (mut carol, _) = Lines::connect(&mesh).await;
    let (mut dave, _) = Lines::connect(&mesh).await;
    let mut recorder = Recorder::of(&mesh);
    alice.say("beep\n").await;
    bob.say("beep\n").await;
    sleep(3 * SECOND / 2).await;
    // Bob's copy came too early, and does not come back.
    assert_eq!(asked.load(SeqCst), 1);
    recorder.expect_nothing().await;
    carol.say("beep\n").await;
    sleep(3 * SECOND / 2).await;
    assert_eq!(asked.load(SeqCst), 2);
    recorder.expect_frame().await;
    for peer in [&mut alice, &mut bob, &mut dave] {
        assert_eq!(peer.heard().await, ["beep"]);
    }
    dave.say("beep\n").await;
    sleep(2 * SECOND).await;
    recorder.expect_nothing().await;
    assert!(alice.heard().await.is_empty());
    assert_eq!(asked.load(SeqCst), 2);
    assert_eq!(mesh.stats().withheld, 1);
}

/// Two ways lead to the hub, the second one longer: its copy comes after the first verdict.
#[tokio::test(start_paused = true)]
async fn a_frame_with_a_nonce_can_be_tried_again_too() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let build = |number: usize, app: App| {
        let count = Arc::clone(&count);
        let validate = Validate::new(move |_: Frame| {
            let count = Arc::clone(&count);
            async move {
                match number {
                    // The last one can't say at first.
                    3 => match count.fetch_add(1, SeqCst) {
                        0 => Verdict::Retry,
                        _ => Verdict::Accept,
                    },
                    1 => {
                        sleep(SECOND).await;
                        Verdict::Accept
                    }
                    _ => Verdict::Accept,
                }
            }
        });
        app.with(SmartRelay::new()).with(validate)
    };
    let ways = [(0, 1), (0, 2), (1, 3), (2, 3)];
    let nodes = MemoryMesh::new(4).edges(ways).start(build).await;
    let mut last = nodes.recorder(3);
    let _ = nodes[0].broadcast_payload("beep").await.unwrap();
    assert_eq!(last.expect_frame().await.payload(), b"beep");
    sleep(3 * SECOND).await;
    last.expect_nothing().await;
    assert_eq!(asked.load(SeqCst), 2);
    let stats = check_sum(&nodes[3]);
    assert_eq!((stats.withheld, stats.relayed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_takes_only_so_long() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let validate = Validate::new(move |_: Frame| {
        let first = count.fetch_add(1, SeqCst) == 0;
        async move {
            if first {
                pending::<()>().await;
            }
            Verdict::Accept
        }
    });
    let app = App::new()
        .with(SmartRelay::new())
        .with(validate.within(2 * SECOND));
    let mesh = node(&Memory::new(), "hub:1", app).await;
    let mut events = mesh.events();
    let (mut alice, peer) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    alice.say("beep\n").await;
    sleep(5 * SECOND / 2).await;
    bob.say("beep\n").await;
    assert_eq!(alice.heard().await, ["beep"]);
    assert_eq!(asked.load(SeqCst), 2);
    assert!(peer.is_connected());
    let stats = check_sum(&mesh);
    assert_eq!((stats.withheld, stats.relayed), (1, 1));
    let mut errors = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(SECOND, events.next()).await {
        if let Event::Error { error, .. } = event {
            errors.push(error.report().to_string());
        }
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("no verdict"), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_judged_since_its_connection_ended_may_come_another_way() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let validate = Validate::new(move |_: Frame| {
        let first = count.fetch_add(1, SeqCst) == 0;
        async move {
            if first {
                pending::<()>().await;
            }
            Verdict::Accept
        }
    });
    let app = App::new()
        .with(SmartRelay::new())
        .with(validate.within(1000 * SECOND));
    let mesh = node(&Memory::new(), "hub:1", app).await;
    let (mut alice, alices) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    let (mut carol, _) = Lines::connect(&mesh).await;
    alice.say("beep\n").await;
    sleep(SECOND).await;
    assert_eq!(asked.load(SeqCst), 1);
    // Its calls may go on for a while.
    alices.disconnect("for the test");
    alices.closed().await;
    sleep(SECOND).await;
    let stats = mesh.stats();
    assert_eq!((stats.withheld, stats.relayed), (0, 0));
    assert_eq!(stats.dropped, 2, "for bob and for carol");
    bob.say("beep\n").await;
    assert_eq!(carol.heard().await, ["beep"]);
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_is_an_error_and_costs_no_connection() {
    let app = |asked: Arc<AtomicUsize>| {
        Validate::new(move |frame: Frame| {
            asked.fetch_add(1, SeqCst);
            async move {
                tokio::task::yield_now().await;
                assert!(frame.payload() != b"boom", "it goes off");
                Verdict::Accept
            }
        })
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let relay = App::new()
        .with(SmartRelay::new())
        .with(app(Arc::clone(&asked)));
    let mesh = node(&Memory::new(), "hub:1", relay).await;
    let mut events = mesh.events();
    let (mut alice, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    alice.say("boom\nbeep\n").await;
    assert_eq!(bob.heard().await, ["beep"]);
    bob.say("boom\n").await;
    assert!(alice.heard().await.is_empty());
    assert_eq!(asked.load(SeqCst), 2, "a copy is not tried again");
    assert_eq!(mesh.peers().len(), 2);
    let stats = check_sum(&mesh);
    assert_eq!((stats.dropped, stats.withheld), (1, 0));
    let is_panic = |event: &Event| matches!(event, Event::Error { error, .. } if error.is_panic());
    while !is_panic(&events.next().await.unwrap()) {}

    let sync = Validate::sync(|frame: &Frame| {
        assert!(frame.payload() != b"boom", "it goes off");
        Verdict::Accept
    });
    let relay = App::new().with(SmartRelay::new()).with(sync);
    let mesh = node(&Memory::new(), "hub:1", relay).await;
    let (mut alice, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    alice.say("boom\nbeep\n").await;
    assert_eq!(bob.heard().await, ["beep"]);
    check_sum(&mesh);
}

/// The middle one of three knows messages of another version only, or another codec.
#[tokio::test(start_paused = true)]
async fn who_passes_on_what_others_do_not_know_does_not_pay() {
    let knows = |known: &'static str| {
        Validate::sync(move |frame: &Frame| match frame.message() {
            Some(message) if message.kind().starts_with(known) => Verdict::Accept,
            _ => Verdict::Ignore,
        })
    };
    let build = |number: usize, app: App| {
        let courier = match number {
            2 => Courier::json(),
            _ => Courier::new(),
        };
        let known = match number {
            3 => "v2",
            _ => "v",
        };
        app.with(SmartRelay::new()).with(courier).with(knows(known))
    };
    // A circle of five: 2 can't parse, 3 does not know the older messages.
    let nodes = MemoryMesh::new(5).ring().start(build).await;
    let mut last = nodes.recorder(4);
    for number in 0..300 {
        let _ = nodes[0].broadcast("v1", &number).await.unwrap();
        if number % 10 == 0 {
            nodes.settled().await;
        }
    }
    for _ in 0..300 {
        last.expect_frame().await;
    }
    for (number, mesh) in nodes.iter().enumerate() {
        assert_eq!(mesh.peers().len(), 2, "{number}");
    }
    assert_eq!(check_sum(&nodes[2]).withheld, 300);
    assert_eq!(nodes[2].stats().relayed, 0);
    assert_eq!(check_sum(&nodes[3]).withheld, 300);
}

#[tokio::test(start_paused = true)]
async fn messages_are_judged_inside_the_courier() {
    let build = |number: usize, app: App| {
        let middle = number == 1;
        let validate = Validate::new(move |frame: Frame| async move {
            let body = frame.message().and_then(|said| said.body::<u32>().ok());
            match body {
                Some(101..) if middle => Verdict::reject(),
                Some(_) => Verdict::Accept,
                None => Verdict::Ignore,
            }
        });
        app.with(SmartRelay::new())
            .with(Courier::new())
            .with(validate)
    };
    let nodes = MemoryMesh::new(3).line().start(build).await;
    let mut last = nodes.recorder(2);
    for score in [7_u32, 101, 8] {
        let _ = nodes[0].broadcast("score", &score).await.unwrap();
    }
    let _ = nodes[0].broadcast("score", &"no number").await.unwrap();
    for expected in [7_u32, 8] {
        let message = last.expect_message("score").await;
        assert_eq!(message.body::<u32>().unwrap(), expected);
    }
    last.expect_nothing().await;
    let stats = check_sum(&nodes[1]);
    assert_eq!((stats.withheld, stats.relayed), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_relay_it_is_a_gate_and_requests_are_refused() {
    let app = |app: App| {
        let echo = tower::layer::layer_fn(|_inner| {
            service_fn(async |frame: Frame| Ok::<_, BoxError>(Reply::Payload(frame.into_payload())))
        });
        app.with(Validate::sync(by_word)).layer(echo)
    };
    let nodes = MemoryMesh::new(2).line().start(|_, one| app(one)).await;
    let peer = nodes.peer(0, 1);
    assert_eq!(peer.request_payload("good").await.unwrap(), "good");
    for (said, reason) in [("odd", "not accepted"), ("bad", "rejected")] {
        let error = peer.request_payload(said).await.unwrap_err();
        assert!(error.is_failed(), "{error}");
        assert!(error.peer_reason().unwrap().contains(reason), "{error}");
    }
    assert_eq!(nodes[1].peers().len(), 1);
}

#[tokio::test]
async fn the_permit_of_a_handler_is_not_held_while_a_check_waits() {
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let handler = service_fn(async |_: Frame| Ok::<_, BoxError>(Reply::None));
    let validate = Validate::new(async |frame: Frame| {
        if frame.payload() == b"slow" {
            pending::<()>().await;
        }
        by_word(&frame)
    });
    let stack = || spawn(validate.layer(limit.layer(handler)));
    let frame = |said: &'static str| test_util::frame(Kind::Data, said);
    let (mut one, mut other) = (stack(), stack());
    assert!(one.enter(|cx, mut one| one.poll_ready(cx)).is_ready());
    assert!(other.enter(|cx, mut one| one.poll_ready(cx)).is_pending());
    let mut call = spawn(one.call(frame("slow")));
    assert!(call.poll().is_pending());
    assert!(other.enter(|cx, mut one| one.poll_ready(cx)).is_ready());
    // What is accepted at once is handled with the permit that there was.
    assert!(spawn(other.call(frame("good"))).poll().is_ready());
    assert!(one.enter(|cx, mut one| one.poll_ready(cx)).is_ready());
    assert!(spawn(one.call(frame("odd"))).poll().is_ready());
    assert!(other.enter(|cx, mut one| one.poll_ready(cx)).is_ready());
}

#[tokio::test]
async fn it_is_a_good_layer() {
    let by_payload = |_: &Frame| Verdict::Accept;
    check(Validate::sync(by_payload)).await;
    check(Validate::new(async |_: Frame| Verdict::Accept)).await;
    let peer = test_util::peer(&Peers::new(Config::default()));
    let keeps =
        move |number| test_util::frame_from(&peer, Kind::Broadcast { nonce: number }, "odd one");
    let conformance = Conformance::new(Validate::sync(by_word)).keeps(keeps.clone());
    conformance.check().await;
    conformance.check_clones().await;
    let later = Validate::new(async |frame: Frame| by_word(&frame));
    let conformance = Conformance::new(later).keeps(keeps);
    conformance.check().await;
    conformance.check_clones().await;
}
