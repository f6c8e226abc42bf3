//! Liars and Sybils.
