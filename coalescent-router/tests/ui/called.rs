use coalescent_router::Router;

async fn ping() {}

fn main() {
    let _router: Router = Router::new().route("ping", ping());
}
