//! The layers are what tower asks of every service.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use coalescent_core::test_util::conformance::{Conformance, check};
use coalescent_core::test_util::{self, frame};
use coalescent_core::wire::Kind;
use coalescent_core::{Config, Peers, Reply};
use coalescent_layers::{CatchPanic, Courier, ServiceBuilderExt, SmartRelay, Tattletale};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

#[tokio::test]
async fn tattletale() {
    check(Tattletale::new()).await;
    check(Tattletale::new().relay_after()).await;
    check(Tattletale::new().validated()).await;
    Conformance::new(Tattletale::new()).check_clones().await;
}

#[tokio::test]
async fn smart_relay_gives_the_permit_of_a_copy_back() {
    let new = SmartRelay::new;
    for relay in [new(), new().relay_after(), new().validated()] {
        let peer = test_util::peer(&Peers::new(Config::default()));
        let seen = test_util::frame_from(&peer, Kind::Broadcast { nonce: 0 }, "seen");
        // No number twice: what was seen is one set for all services of the layer.
        let numbers = AtomicU64::new(1);
        let news = move |_| {
            let nonce = numbers.fetch_add(1, Relaxed);
            test_util::frame_from(&peer, Kind::Broadcast { nonce }, "news")
        };
        // Once, so that it is a copy from now on.
        let mut service = relay.layer(service_fn(async |_| Ok::<_, BoxError>(Reply::None)));
        service
            .ready()
            .await
            .unwrap()
            .call(seen.clone())
            .await
            .unwrap();
        let conformance = Conformance::new(relay)
            .frames(news)
            .keeps(move |_| seen.clone());
        conformance.check().await;
        conformance.check_clones().await;
    }
}

#[tokio::test]
async fn courier_gives_the_permit_of_what_does_not_parse_back() {
    let conformance = Conformance::new(Courier::new()).keeps(|_| frame(Kind::Data, "no message"));
    conformance.check().await;
    conformance.check_clones().await;
}

#[tokio::test]
async fn catch_panic() {
    check(CatchPanic::new()).await;
    Conformance::new(CatchPanic::new()).check_clones().await;
}

#[tokio::test]
async fn all_of_them() {
    let stack = ServiceBuilder::new()
        .catch_panic()
        .tattletale()
        .courier()
        .into_inner();
    let conformance = Conformance::new(stack).keeps(|_| frame(Kind::Data, "no message"));
    conformance.check().await;
    conformance.check_clones().await;
}
