use std::rc::Rc;

use coalescent_router::Router;

async fn ping() {
    let counter = Rc::new(7);
    tokio::task::yield_now().await;
    drop(counter);
}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
