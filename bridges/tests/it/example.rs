//! The command line of the example.

use std::env;
use std::process::{Command, Output};

/// Runs the example, which `cargo test` has built.
fn bridge(args: &[&str]) -> Output {
    let mut path = env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.push("examples/bridge");
    assert!(path.exists(), "first run: cargo build --example bridge");
    Command::new(path).args(args).output().expect("the example")
}

#[test]
fn it_says_what_it_takes() {
    let output = bridge(&["--help"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in ["<SERVER>", "<SUBJECT>", "<LISTEN>", "[SEEDS]", "nats://"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_wrong_is_one_line() {
    let cases = [
        (&["nats://127.0.0.1:1"][..], "<SUBJECT> <LISTEN>"),
        (&["--listen", "127.0.0.1:0"], "'--listen'"),
    ];
    for (args, part) in cases {
        let output = bridge(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.starts_with("bridge: ") && text.contains(part),
            "{text}"
        );
    }
}
