use coalescent_core::{BoxError, Frame, Peer, Reply};
use coalescent_router::middleware::{Next, from_fn};

async fn not_an_extractor(_number: u64, frame: Frame, next: Next) -> Result<Reply, BoxError> {
    next.run(frame).await
}

async fn without_the_frame(_peer: Peer, _next: Next) {}

async fn without_next(_frame: Frame) {}

async fn not_a_reply(_frame: Frame, _next: Next) -> u64 {
    7
}

fn not_async(_frame: Frame, _next: Next) {}

fn main() {
    let _ = from_fn(not_an_extractor);
    let _ = from_fn(without_the_frame);
    let _ = from_fn(without_next);
    let _ = from_fn(not_a_reply);
    let _ = from_fn(not_async);
}
