use std::rc::Rc;

use coalescent_router::Router;

fn main() {
    let counter = Rc::new(7);
    let _router: Router = Router::new().route("ping", move || {
        println!("{}", Rc::strong_count(&counter));
        async {}
    });
}
