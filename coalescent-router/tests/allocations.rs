//! How many heap allocations a frame costs on its way through a router, as a connection calls it:
//! none without a handler, one with a handler, for its future.
//!
//! A binary of its own: counting allocations takes a global allocator.

use bytes::Bytes;
use coalescent_core::codec::Codec;
use coalescent_core::test_util::{self, Driver};
use coalescent_core::wire::Kind;
use coalescent_core::{Config, Frame, Message, Peers};
use coalescent_router::extract::Body;
use coalescent_router::{NotFound, Router, ends};
use tower::ServiceBuilder;

/// How many frames are counted.
const FRAMES: u64 = 1000;

/// How many allocations each frame costs with a "ping" that was parsed beforehand; all of them the
/// same.
fn count(router: Router, answers: bool) -> u64 {
    let codec = Codec::msgpack();
    let payload = codec.encode_body("ping", &1).expect("a good body");
    let ping = codec.decode(&payload).expect("a message");
    let stack = ServiceBuilder::new()
        .map_request(move |mut frame: Frame| {
            frame.set_message(ping.clone());
            frame
        })
        .layer(router)
        .service(NotFound::new());
    let mut driver = Driver::new(&test_util::peer(&Peers::new(Config::default())), stack);
    let mut call = || {
        let reply = driver.call(Kind::Data, payload.clone());
        assert!(reply.is_ok_and(|reply| reply.is_none() != answers));
    };
    // Before, for what is made when it is first used, and where memory is shared with what was made
    // above.
    (0..FRAMES).for_each(|_| call());
    let one = allocation_counter::measure(&mut call).count_total;
    let all = allocation_counter::measure(|| (0..FRAMES).for_each(|_| call()));
    assert_eq!(all.count_total, FRAMES * one, "each frame costs the same");
    one
}

#[test]
fn a_frame_without_a_handler_allocates_nothing() {
    assert_eq!(count(Router::new(), false), 0);
    assert_eq!(count(Router::new().route("pong", async || {}), false), 0);
}

#[test]
fn a_handler_is_one_allocation() {
    async fn reads(Body(number): Body<u32>) {
        assert_eq!(number, 1);
    }
    assert_eq!(count(Router::new().route("ping", reads), false), 1);
    assert_eq!(count(Router::new().route("ping", ends(reads)), false), 1);
    assert_eq!(count(Router::new().fallback(reads), false), 1);
}

#[test]
fn a_reply_is_as_many_more_as_it_takes_to_make_it() {
    // Bytes that are there already.
    let payload = async || Bytes::from_static(b"pong");
    assert_eq!(count(Router::new().route("ping", payload), true), 1);
    // A short message is written into memory that the thread uses again, a longer one into bytes of
    // its own.
    let message = async || Message::new("pong", &2);
    assert_eq!(count(Router::new().route("ping", message), true), 1);
    let longer = async || Message::new("pong", [0_u8; 2000].as_slice());
    assert_eq!(count(Router::new().route("ping", longer), true), 2);
}
