//! Limits: whose they are, and what waits where.

use std::time::Duration;

use coalescent::connection::READY_TIMEOUT;
use coalescent::test_util::{MemoryMesh, Recorder};
use coalescent::{App, AppExt, BoxError, Courier, Event, Refusal, SmartRelay};
use tokio::time::Instant;
use tower::buffer::BufferLayer;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::load_shed::error::Overloaded;
use tower::spawn_ready::SpawnReadyLayer;
use tower::util::{MapErrLayer, option_layer};

use super::support::{Gate, ask, idle, next_error, node};

const SECOND: Duration = Duration::from_secs(1);

/// Asks `times` times at once, and returns how many were answered, each with its own text.
async fn ask_all(recorder: &Recorder, times: usize) -> usize {
    let peer = recorder.peer();
    let asked = (0..times).map(|time| async move {
        let text = format!("{time}");
        ask(peer, &text).await.ok() == Some(text)
    });
    let answered = futures_util::future::join_all(asked).await;
    answered.into_iter().filter(|answered| *answered).count()
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_is_each_peers_own() {
    let gate = Gate::new(0);
    let app = App::new()
        .concurrency(8)
        .layer(ConcurrencyLimitLayer::new(2))
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let all = async { tokio::join!(ask_all(&alice, 5), ask_all(&bob, 5)) };
    let let_in = async {
        gate.filled(4).await;
        gate.let_through(10);
    };
    let (answered, ()) = tokio::join!(all, let_in);
    assert_eq!(answered, (5, 5));
    assert_eq!(gate.most(), 4, "two of each");
}

#[tokio::test(start_paused = true)]
async fn a_global_concurrency_limit_is_the_nodes() {
    let gate = Gate::new(0);
    let app = App::new()
        .concurrency(8)
        .layer(GlobalConcurrencyLimitLayer::new(3))
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let all = async { tokio::join!(ask_all(&alice, 5), ask_all(&bob, 5)) };
    let let_in = async {
        gate.filled(3).await;
        gate.let_through(10);
    };
    let (answered, ()) = tokio::join!(all, let_in);
    assert_eq!(answered, (5, 5));
    assert_eq!(gate.most(), 3, "three of all together");
}

#[tokio::test(start_paused = true)]
async fn idle_peers_hold_no_permit_of_a_global_limit() {
    let app = App::new()
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .layer(Gate::new(usize::MAX >> 4));
    let (mesh, first) = node(app).await;
    let mut peers = vec![first];
    for _ in 0..3 {
        peers.push(Recorder::join(&mesh).await);
    }
    let start = Instant::now();
    for _ in 0..2 {
        for peer in &peers {
            assert_eq!(ask(peer.peer(), "you").await.unwrap(), "you");
        }
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody waited for another");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_outermost_limits_each_peer() {
    let app = App::new()
        .layer(RateLimitLayer::new(2, SECOND))
        .layer(Gate::new(100));
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let start = Instant::now();
    assert_eq!(ask_all(&alice, 5).await, 5);
    let waited = start.elapsed();
    assert!(waited >= 2 * SECOND && waited < 3 * SECOND, "{waited:?}");
    let start = Instant::now();
    assert_eq!(ask_all(&bob, 2).await, 2);
    assert_eq!(start.elapsed(), Duration::ZERO, "its own limit");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_the_stack_is_not_ready_for_in_time_fails_and_the_next_is_tried() {
    let gate = Gate::new(100);
    let app = App::new()
        .layer(RateLimitLayer::new(1, READY_TIMEOUT + 10 * SECOND))
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let mut events = mesh.events();
    let start = Instant::now();
    for text in ["first", "second", "third"] {
        alice.send_payload(text).await;
    }
    let error = next_error(&mut events).await;
    assert!(error.contains("not ready within"), "{error}");
    let waited = start.elapsed();
    assert!(waited >= READY_TIMEOUT && waited < READY_TIMEOUT + SECOND);
    while gate.done() < 2 {
        idle().await;
    }
    assert_eq!(mesh.peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_behind_a_buffer_can_stand_inside_of_relays() {
    // `RateLimit` is not `Clone`, and what is inside of a relay must be: the buffer is.
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new(100)).collect();
    let nodes = MemoryMesh::new(3)
        .line()
        .start(|node, app| {
            app.with(SmartRelay::new())
                .layer(BufferLayer::new(4))
                .layer(RateLimitLayer::new(2, SECOND))
                .layer(gates[node].clone())
        })
        .await;
    let start = Instant::now();
    for frame in 0..6 {
        let _ = nodes[0]
            .broadcast_payload(format!("{frame}"))
            .await
            .unwrap();
    }
    while gates[1].done() < 6 {
        idle().await;
    }
    let waited = start.elapsed();
    assert!(waited >= 2 * SECOND && waited < 3 * SECOND, "{waited:?}");
    assert_eq!(nodes[1].stats().relayed, 6);
}

#[tokio::test(start_paused = true)]
async fn a_limit_inside_of_a_relay_delays_it_unless_a_buffer_is_between() {
    let gates = || [Gate::new(99), Gate::new(0), Gate::new(99)];
    let limit = ConcurrencyLimitLayer::new(1);
    let (free, held) = (gates(), gates());
    let buffered = MemoryMesh::new(3).line().start(|node, app| {
        app.with(SmartRelay::new())
            .layer(BufferLayer::new(4))
            .layer(limit.clone())
            .layer(free[node].clone())
    });
    let buffered = buffered.await;
    let direct = MemoryMesh::new(3).line().start(|node, app| {
        app.with(SmartRelay::new())
            .layer(limit.clone())
            .layer(held[node].clone())
    });
    let direct = direct.await;
    for nodes in [&buffered, &direct] {
        for frame in 0..3 {
            let text = format!("{frame}");
            let _ = nodes[0].broadcast_payload(text).await.unwrap();
        }
    }
    free[1].filled(1).await;
    held[1].filled(1).await;
    while free[2].done() < 3 {
        idle().await;
    }
    assert_eq!(direct[1].stats().relayed, 1);
    held[1].let_through(3);
    while held[2].done() < 3 {
        idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_outside_of_a_relay_limits_what_is_relayed() {
    let nodes = MemoryMesh::new(3)
        .line()
        .start(|_, app| {
            app.layer(RateLimitLayer::new(2, SECOND))
                .with(SmartRelay::new())
        })
        .await;
    let mut far = nodes.recorder(2);
    let start = Instant::now();
    for frame in 0..3 {
        let _ = nodes[0]
            .broadcast_payload(format!("{frame}"))
            .await
            .unwrap();
    }
    far.expect_frame().await;
    far.expect_frame().await;
    assert!(start.elapsed() < SECOND);
    far.expect_frame().await;
    assert!(start.elapsed() >= SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_queues_for_one_worker_in_order() {
    let gate = Gate::new(0);
    let app = App::new()
        .concurrency(8)
        .layer(BufferLayer::new(4))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(gate.clone());
    let (_mesh, alice) = node(app).await;
    let (answered, ()) = tokio::join!(ask_all(&alice, 6), async {
        gate.filled(1).await;
        gate.let_through(6);
    });
    assert_eq!((answered, gate.most()), (6, 1));
}

#[tokio::test(start_paused = true)]
async fn the_worker_of_a_buffer_ends_with_its_peer() {
    let gate = Gate::new(0);
    let app = App::new().layer(BufferLayer::new(4)).layer(gate.clone());
    let (mesh, alice) = node(app).await;
    alice.send_payload("held up").await;
    gate.filled(1).await;
    alice.mesh().abort().await;
    while !mesh.peers().is_empty() || gate.inside() > 0 {
        idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_shed_fails_and_the_peer_stays() {
    let gate = Gate::new(0);
    let app = App::new()
        .concurrency(8)
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let (first, second) = tokio::join!(ask(alice.peer(), "first"), async {
        gate.filled(1).await;
        let refused = ask(alice.peer(), "second").await.unwrap_err();
        gate.let_through(2);
        refused
    });
    assert_eq!(first.unwrap(), "first");
    assert!(second.is_failed(), "{second}");
    assert!(second.to_string().contains("overloaded"), "{second}");
    assert_eq!(ask(alice.peer(), "third").await.unwrap(), "third");
    assert_eq!(mesh.peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shed_request_is_an_event_unless_it_is_refused() {
    let busy = |error: BoxError| -> BoxError {
        match error.is::<Overloaded>() {
            true => Refusal::new("busy").into(),
            false => error,
        }
    };
    for refuses in [false, true] {
        let gate = Gate::new(0);
        let app = App::new()
            .concurrency(8)
            .layer(option_layer(refuses.then(|| MapErrLayer::new(busy))))
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
            .layer(gate.clone());
        let (mesh, alice) = node(app).await;
        let mut events = mesh.events();
        let (first, second) = tokio::join!(ask(alice.peer(), "first"), async {
            gate.filled(1).await;
            let shed = ask(alice.peer(), "second").await.unwrap_err();
            gate.let_through(1);
            shed
        });
        first.unwrap();
        let said = second.peer_reason().unwrap();
        assert_eq!(said == "busy", refuses, "{said}");
        assert!(
            second
                .to_string()
                .starts_with("the peer refused or failed the request: ")
        );
        mesh.shutdown().await;
        let mut errors = 0;
        while let Some(event) = events.next().await {
            errors += usize::from(matches!(event, Event::Error { .. }));
        }
        assert_eq!(errors, usize::from(!refuses));
    }
}

#[tokio::test(start_paused = true)]
async fn spawn_ready_drives_a_limit_from_outside_and_from_a_buffer() {
    let gate = Gate::new(100);
    let app = App::new()
        .layer(SpawnReadyLayer::new())
        .with(Courier::new())
        .layer(BufferLayer::new(4))
        .layer(SpawnReadyLayer::new())
        .layer(RateLimitLayer::new(1, SECOND))
        .layer(gate.clone());
    let (_mesh, alice) = node(app).await;
    let start = Instant::now();
    for _ in 0..2 {
        assert!(alice.request("any", &()).await.is_ok());
    }
    assert!(start.elapsed() >= SECOND);
    assert_eq!(gate.done(), 2);
}
