use coalescent_core::{Frame, Peer};
use coalescent_router::Router;

async fn ping(_frame: Frame, _peer: Peer) {}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
