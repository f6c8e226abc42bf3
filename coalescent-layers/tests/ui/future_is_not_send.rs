use std::convert::Infallible;
use std::rc::Rc;

use coalescent_core::{App, Frame, Reply};
use tower::layer::layer_fn;
use tower::service_fn;

async fn handle(_: Frame) -> Result<Reply, Infallible> {
    let counter = Rc::new(7);
    tokio::task::yield_now().await;
    drop(counter);
    Ok(Reply::None)
}

fn main() {
    let _start = App::new().layer(layer_fn(|_inner| service_fn(handle))).start();
}
