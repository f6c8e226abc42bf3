use coalescent_core::{App, AppExt, Plugin};

struct Clock;

impl Plugin for Clock {}

fn main() {
    let _app = App::new().with(Clock);
}
