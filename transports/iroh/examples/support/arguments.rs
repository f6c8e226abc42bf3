//! The arguments of an example, read by `clap`.

use std::process::exit;

use clap::{Error, Parser};

/// Reads the arguments. What is wrong with them is said in one line, and ends the program with
/// status 2.
pub(crate) fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| refuse(&error))
}

fn refuse(error: &Error) -> ! {
    if !error.use_stderr() {
        error.exit(); // it asks for help
    }
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.split_whitespace().skip(1).collect();
    eprintln!(
        "{}: {}; see --help",
        env!("CARGO_CRATE_NAME"),
        words.join(" ")
    );
    exit(2)
}
