//! Middleware from async functions.

mod from_fn;
mod function;

pub use from_fn::{FromFn, FromFnLayer, Next, from_fn, from_fn_with_state};
