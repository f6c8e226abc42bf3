use std::convert::Infallible;

use coalescent_core::{App, Frame};
use tower::layer::layer_fn;
use tower::service_fn;

fn main() {
    let numbers = layer_fn(|_inner| service_fn(async |_: Frame| Ok::<u64, Infallible>(7)));
    let _start = App::new().layer(numbers).start();
}
