//! The router is what tower asks of every service.

use coalescent_core::test_util::conformance::{Check, Conformance};
use coalescent_core::test_util::{self, frame_from};
use coalescent_core::wire::Kind;
use coalescent_core::{Config, Frame, Message, Peers, Reply};
use coalescent_router::{Router, ends};

/// Makes frames with a message of this type, as a courier would.
fn frames(kind: &'static str) -> impl Fn(u64) -> Frame + 'static {
    let peer = test_util::peer(&Peers::new(Config::default()));
    move |nonce| {
        let mut frame = frame_from(&peer, Kind::Broadcast { nonce }, "not looked at");
        frame.set_message(Message::new(kind, &nonce));
        frame
    }
}

fn router() -> Router {
    Router::new()
        .route("ends here", ends(async || Message::new("answer", &())))
        .route("goes on", async || ())
}

#[tokio::test]
async fn a_frame_without_a_route_goes_through() {
    let conformance = Conformance::new(router()).frames(frames("unknown"));
    conformance.check().await;
    conformance.check_clones().await;
}

#[tokio::test]
async fn a_frame_that_goes_on_after_its_handler_is_called_with_readiness() {
    let conformance = Conformance::new(router()).frames(frames("goes on"));
    conformance.check().await;
    conformance.check_clones().await;
}

#[tokio::test]
async fn a_frame_that_ends_in_its_handler_gives_the_permit_back() {
    let conformance = Conformance::new(router())
        .frames(frames("unknown"))
        .keeps(frames("ends here"));
    conformance.check().await;
    conformance.check_clones().await;
}

#[tokio::test]
async fn a_handlers_reply_comes_before_that_of_what_is_inside() {
    let answers = Router::new().route("goes on", async || Reply::Payload("mine".into()));
    Conformance::new(answers)
        .frames(frames("goes on"))
        .without(Check::Replies)
        .check()
        .await;
}
