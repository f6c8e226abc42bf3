use coalescent_router::Router;
use coalescent_router::extract::State;

async fn ping(_state: State<u64>) {}

fn main() {
    let _router = Router::<String>::new().route("ping", ping);
}
