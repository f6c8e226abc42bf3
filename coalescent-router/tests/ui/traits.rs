use coalescent_router::{FromFrame, FromFrameParts, IntoReply};
use coalescent_router::extract::{FromRef, State};

fn last<T: FromFrame<(), M>, M>() {}
fn any<T: FromFrameParts<()>>() {}
fn reply<T: IntoReply>() {}
fn part<T: FromRef<u8>>() {}

fn main() {
    last::<u64, _>();
    any::<coalescent_core::Frame>();
    any::<Option<coalescent_core::Peer>>();
    any::<State<u64>>();
    reply::<u64>();
    part::<u64>();
}
