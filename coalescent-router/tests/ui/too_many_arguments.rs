use coalescent_core::Peer as P;
use coalescent_router::Router;

#[rustfmt::skip]
async fn ping(
    _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P, _: P,
) {}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
