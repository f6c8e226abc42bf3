use coalescent_core::{App, AppExt};
use coalescent_router::Router;
use coalescent_router::extract::State;

async fn ping(_state: State<u64>) {}

fn main() {
    let router = Router::<u64>::new().route("ping", ping);
    let _app = App::new().with(router);
}
