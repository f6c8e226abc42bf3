use coalescent_router::Router;
use coalescent_router::extract::State;

async fn ping(_state: State<u64>) {}

fn main() {
    let _router: Router = Router::new().route("ping", ping).with_state("seven");
}
