use coalescent_core::{App, AppExt};
use tower::limit::ConcurrencyLimitLayer;

fn main() {
    let _app = App::new().with(ConcurrencyLimitLayer::new(8));
}
