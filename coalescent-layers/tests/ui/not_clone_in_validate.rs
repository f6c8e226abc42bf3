use std::time::Duration;

use coalescent_core::{App, AppExt, Frame, Verdict};
use coalescent_layers::Validate;
use tower::limit::RateLimitLayer;

fn main() {
    let app = App::new().with(Validate::new(async |_: Frame| Verdict::Accept));
    let _start = app.layer(RateLimitLayer::new(8, Duration::from_secs(1))).start();
}
