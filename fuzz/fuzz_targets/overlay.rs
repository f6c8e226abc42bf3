//! The target `overlay` of `tests/it/generated/targets.rs`, for cargo-fuzz.
#![no_main]

#[path = "../../tests/it/generated/targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::run("overlay", input));
