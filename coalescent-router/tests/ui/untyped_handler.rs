use coalescent_router::Router;
use coalescent_router::extract::Body;

async fn number(Body(_number): Body<u32>) {}

fn main() {
    let _router: Router = Router::new().typed(number);
}
