use std::time::Duration;

use coalescent_core::{App, AppExt};
use coalescent_layers::Signed;
use tower::limit::RateLimitLayer;

fn main() {
    let app = App::new().with(Signed::new());
    let _start = app.layer(RateLimitLayer::new(8, Duration::from_secs(1))).start();
}
