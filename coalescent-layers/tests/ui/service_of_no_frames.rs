use std::convert::Infallible;

use coalescent_core::{App, AppExt, Reply};
use coalescent_layers::Courier;
use tower::layer::layer_fn;
use tower::service_fn;

fn main() {
    let texts = layer_fn(|_inner| service_fn(async |_: String| Ok::<_, Infallible>(Reply::None)));
    let _start = App::new().with(Courier::new()).layer(texts).start();
}
