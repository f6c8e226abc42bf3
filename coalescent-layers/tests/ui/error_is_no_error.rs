use coalescent_core::{App, AppExt, Frame, Reply};
use coalescent_layers::Courier;
use tower::layer::layer_fn;
use tower::service_fn;

fn main() {
    let numbers = layer_fn(|_inner| service_fn(async |_: Frame| Err::<Reply, u64>(7)));
    let _start = App::new().with(Courier::new()).layer(numbers).start();
}
