//! An Express-like framework for peer-to-peer applications, on tower.

#[doc(inline)]
pub use coalescent_core::*;
