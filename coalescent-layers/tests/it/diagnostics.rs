//! What the compiler says about stacks of layers that do not fit.
//!
//! After a change, look at what `TRYBUILD=overwrite cargo test -p coalescent-layers --test it
//! diagnostics` writes.

use std::process::Command;

/// The compiler that the texts are of. Each puts some lines in other words.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn errors_say_what_is_wrong() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(RUSTC) {
        eprintln!("not compared: the texts are of {RUSTC}, and this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    if cfg!(feature = "tls") {
        cases.compile_fail("tests/ui/tls/*.rs");
    }
}
