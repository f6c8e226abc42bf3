//! Measures the time that each layer adds to a frame: the layer wraps a service that does nothing,
//! and is called as a connection calls it.
//!
//! The cost of a layer is its result minus that of `nothing` in the same group, at the same size.
//! The group `frame` contains the layers that process frames, `message` those that process
//! messages, which are parsed beforehand. `whole` combines all of them around the inbox of a node
//! whose read side nobody has taken.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use coalescent::codec::Codec;
use coalescent::smart_relay::SmartRelayService;
use coalescent::test_util::{self, Driver};
use coalescent::trace::{MessageTraceExt, TraceParent};
use coalescent::wire::Kind;
use coalescent::{
    CatchPanic, Config, Courier, Frame, Message, NotFound, PeerService, Peers, Router, SmartRelay,
    Tattletale, TraceContext, Validate, Verdict,
};
use criterion::{BenchmarkId, Criterion};
use tower::util::MapRequest;
use tower::{Layer, ServiceBuilder};

/// The lengths of the payloads, in bytes.
const SIZES: [usize; 2] = [64, 1024];

/// The type of the message in each payload.
const KIND: &str = "say";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for size in SIZES {
        let mut bench = Bench {
            criterion: &mut criterion,
            peers: Peers::new(Config::default()),
            payload: payload(&Codec::msgpack(), size),
        };
        bench.frames();
        bench.messages();
        bench.whole();
        bench.payload = payload(&Codec::json(), size);
        bench.run("frame/courier_json", 0.., around(Courier::json()));
    }
    criterion.final_summary();
}

struct Bench<'a> {
    criterion: &'a mut Criterion,
    peers: Peers,
    payload: Bytes,
}

impl Bench<'_> {
    fn frames(&mut self) {
        self.run("frame/nothing", 0.., NotFound::new());
        self.run("frame/tattletale", 0.., around(Tattletale::new()));
        self.run("frame/smart_relay_first", 0.., around(SmartRelay::new()));
        let (same, relay) = (std::iter::repeat(0), SmartRelay::new());
        self.run("frame/smart_relay_duplicate", same, around(relay));
        let accepts = Validate::sync(|_: &Frame| Verdict::Accept);
        self.run("frame/smart_relay_validated", 0.., validated(accepts));
        let accepts = Validate::new(async |_: Frame| Verdict::Accept);
        self.run("frame/smart_relay_validated_async", 0.., validated(accepts));
        self.run("frame/courier", 0.., around(Courier::new()));
        self.run("frame/catch_panic", 0.., around(CatchPanic::new()));
    }

    fn messages(&mut self) {
        let codec = Codec::msgpack();
        let decode = |payload: &Bytes| codec.decode(payload).expect("a message");
        let plain = decode(&self.payload);
        let traced = plain.clone().with_trace_of(&TraceParent::root(true));
        let traced = decode(&codec.encode(&traced).expect("a good message"));
        let nothing = NotFound::new();
        let (no_route, handler) = (around(router("else")), around(router(KIND)));
        let trace = around(TraceContext::new());
        self.run("message/nothing", 0.., with(&plain, nothing));
        self.run("message/router_no_route", 0.., with(&plain, no_route));
        self.run("message/router_handler", 0.., with(&plain, handler));
        self.run("message/trace_none", 0.., with(&plain, trace.clone()));
        self.run("message/trace_joined", 0.., with(&traced, trace));
    }

    fn whole(&mut self) {
        for (name, route) in [("no_route", "else"), ("handler", KIND)] {
            let stack = ServiceBuilder::new()
                .layer(SmartRelay::new())
                .layer(Courier::new())
                .layer(TraceContext::new())
                .layer(CatchPanic::new())
                .layer(router(route))
                .service(self.peers.inbox());
            self.run(&format!("whole/{name}"), 0.., stack);
        }
    }

    /// Calls `stack` with broadcasts that have these nonces.
    fn run(&mut self, name: &str, nonces: impl IntoIterator<Item = u64>, stack: impl PeerService) {
        let mut nonces = nonces.into_iter();
        let mut driver = Driver::new(&test_util::peer(&self.peers), stack);
        let mut group = self.criterion.benchmark_group(format!("stack/{name}"));
        group.bench_function(BenchmarkId::from_parameter(self.payload.len()), |bencher| {
            bencher.iter(|| {
                let nonce = nonces.next().unwrap_or_default();
                let reply = driver.call(Kind::Broadcast { nonce }, self.payload.clone());
                assert!(black_box(reply).is_ok());
            });
        });
    }
}

/// Returns a message of `size` bytes with a text body.
fn payload(codec: &Codec, size: usize) -> Bytes {
    let encode = |text: usize| {
        let payload = codec.encode_body(KIND, &"x".repeat(text));
        payload.expect("a good body")
    };
    let around = encode(size).len() - size;
    let payload = encode(size - around);
    assert_eq!(
        payload.len(),
        size,
        "as much stands around the shorter text"
    );
    payload
}

/// Wraps a service that does nothing in the layer.
fn around<L: Layer<NotFound>>(layer: L) -> L::Service {
    layer.layer(NotFound::new())
}

/// Wraps a service that does nothing in a layer that judges frames for the relay around it.
fn validated<L: Layer<NotFound>>(validate: L) -> SmartRelayService<L::Service> {
    let relay = SmartRelay::new().validated();
    relay.layer(validate.layer(NotFound::new()))
}

/// Returns a router whose only handler does nothing.
fn router(kind: &str) -> Router {
    Router::new().route(kind, async || {})
}

/// Adds a message that was parsed beforehand to the frames for `inner`.
fn with(message: &Message, inner: impl PeerService) -> impl PeerService {
    let message = message.clone();
    MapRequest::new(inner, move |mut frame: Frame| {
        frame.set_message(message.clone());
        frame
    })
}
