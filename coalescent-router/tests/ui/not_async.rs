use coalescent_router::Router;

fn ping() {}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
