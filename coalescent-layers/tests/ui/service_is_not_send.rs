use std::convert::Infallible;
use std::rc::Rc;

use coalescent_core::{App, Frame, Reply};
use tower::layer::layer_fn;
use tower::service_fn;

fn main() {
    let counting = layer_fn(|_inner| {
        let counter = Rc::new(7);
        service_fn(move |_: Frame| {
            let _ = Rc::strong_count(&counter);
            std::future::ready(Ok::<_, Infallible>(Reply::None))
        })
    });
    let _start = App::new().layer(counting).start();
}
