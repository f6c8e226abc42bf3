use coalescent_router::Router;

async fn ping() -> u64 {
    7
}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
