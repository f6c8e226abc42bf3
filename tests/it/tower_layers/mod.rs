//! Tower's own layers in the stacks of connected peers. Each row of the table in `docs/tower.md` is
//! a test here.

mod boxed;
mod everywhere;
mod limits;
mod maps;
mod places;
mod refusals;
mod support;
