//! The example of a replicated store, whose own modules these tests are made of: what wins, what
//! splits do, who comes late, and what a hostile peer costs.

mod hostile;
mod merge;
mod nodes;
#[path = "../../../examples/store/replica.rs"]
mod replica;
mod splits;
#[path = "../../../examples/store/sync.rs"]
mod sync;
