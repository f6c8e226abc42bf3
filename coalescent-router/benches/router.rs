//! The cost of finding a message's handler among 1, 100 and 10,000 routes, or of finding none.
//!
//! There are as many message types as routes, used in turn, and the messages are parsed beforehand.
//! `base` is the cost of the frame, its message and a service that does nothing. In `handler`, the
//! handler does nothing either.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::test_util::{self, Driver};
use coalescent_core::wire::Kind;
use coalescent_core::{Config, Frame, Message, PeerService, Peers};
use coalescent_router::{NotFound, Router};
use criterion::{BenchmarkId, Criterion};
use tower::util::MapRequest;
use tower_layer::Layer;

const ROUTES: [usize; 3] = [1, 100, 10_000];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for count in ROUTES {
        let router = (0..count).fold(Router::new(), |router, number| {
            router.route(&kind("known", number), async || {})
        });
        // Qualified, because the method `Router::layer` wraps a layer around the handlers.
        let router = Layer::layer(&router, NotFound::new());
        let known = messages("known", count);
        let unknown = messages("other", count);
        let base = of(known.clone(), NotFound::new());
        measure(&mut criterion, "base", count, base);
        measure(&mut criterion, "handler", count, of(known, router.clone()));
        measure(&mut criterion, "no_route", count, of(unknown, router));
    }
    criterion.final_summary();
}

fn kind(prefix: &str, number: usize) -> String {
    format!("{prefix}/{number}")
}

fn messages(prefix: &str, count: usize) -> Vec<Message> {
    let numbers = 0..count;
    numbers
        .map(|number| Message::new(kind(prefix, number), &()))
        .collect()
}

/// Wraps `inner` so that each frame carries the next of `messages`, in turn.
fn of<S: PeerService>(messages: Vec<Message>, inner: S) -> impl PeerService {
    let mut next = 0;
    MapRequest::new(inner, move |mut frame: Frame| {
        frame.set_message(messages[next].clone());
        next = (next + 1) % messages.len();
        frame
    })
}

fn measure(criterion: &mut Criterion, name: &str, routes: usize, stack: impl PeerService) {
    let peer = test_util::peer(&Peers::new(Config::default()));
    let mut driver = Driver::new(&peer, stack);
    let payload = Bytes::from(vec![b'x'; 64]);
    let mut group = criterion.benchmark_group(format!("router/{name}"));
    group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
        bencher.iter(|| {
            let reply = driver.call(Kind::Data, payload.clone());
            assert!(black_box(reply).is_ok());
        });
    });
}
