use coalescent_core::Peer;
use coalescent_router::{Router, ends};

async fn ping(_peer: Peer, _number: u64, _other: Peer) {}

fn main() {
    let _router: Router = Router::new().route("ping", ends(ping));
}
