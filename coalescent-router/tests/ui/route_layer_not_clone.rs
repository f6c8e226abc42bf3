use std::time::Duration;

use coalescent_router::Router;
use tower::limit::RateLimitLayer;

async fn ping() {}

fn main() {
    let _router: Router = Router::new()
        .route("ping", ping)
        .layer(RateLimitLayer::new(8, Duration::from_secs(1)));
}
