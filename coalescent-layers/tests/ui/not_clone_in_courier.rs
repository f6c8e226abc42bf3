use std::time::Duration;

use coalescent_core::{App, AppExt};
use coalescent_layers::Courier;
use tower::limit::RateLimitLayer;

fn main() {
    let app = App::new().with(Courier::new());
    let _start = app.layer(RateLimitLayer::new(8, Duration::from_secs(1))).start();
}
