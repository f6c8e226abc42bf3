//! Staying connected to seeds.

mod plan;
