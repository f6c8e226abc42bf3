//! Tower's own layers, and those of other crates, in the stacks of connected peers. Each row of the
//! tables in `docs/tower.md` is a test here.

mod boxed;
mod everywhere;
mod limits;
mod maps;
mod places;
mod refusals;
mod support;
mod third_party;
