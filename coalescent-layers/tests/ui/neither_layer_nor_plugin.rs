use coalescent_core::{App, AppExt};

fn main() {
    let _app = App::new().with(String::new());
    let _app = App::new().plugin(String::new());
}
