use std::time::Duration;

use coalescent_core::{App, AppExt};
use coalescent_layers::{Courier, SmartRelay};
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};

fn main() {
    let _start = App::new()
        .with(SmartRelay::new())
        .layer(ConcurrencyLimitLayer::new(8))
        .layer(RateLimitLayer::new(8, Duration::from_secs(1)))
        .with(Courier::new())
        .start();
}
