use coalescent_router::Router;

async fn ping(_number: u64) {}

fn main() {
    let _router: Router = Router::new().route("ping", ping);
}
