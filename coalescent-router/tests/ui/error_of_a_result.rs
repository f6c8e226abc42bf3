use coalescent_router::Router;

async fn ping() -> Result<(), u64> {
    Err(7)
}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
