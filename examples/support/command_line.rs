//! The command line of an example, read by `clap`. What is wrong with it is said in one line, and
//! ends the program with status 2.
//!
//! Each example has this file as a module: `#[path = "support/command_line.rs"] mod command_line;`.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::ops::RangeInclusive;
use std::process::exit;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use coalescent::{Address, report};

const NAME: &str = env!("CARGO_BIN_NAME");

/// How much of an argument an error shows, in characters.
const SHOWN: usize = 100;

/// What a program answers to its command line instead of running.
pub(crate) enum Answer {
    /// What `--help` or `--version` asks for.
    Text(String),
    /// One line that says what to do about arguments that cannot be used.
    Refusal(String),
}

/// Reads the command line. Exits if it asks for help, or cannot be used.
pub(crate) fn parse<T: CommandFactory + FromArgMatches>() -> T {
    read(std::env::args_os()).unwrap_or_else(|answer| answer.give())
}

/// Reads the command line of a program that takes nothing but `--help`.
pub(crate) fn none(about: &'static str) {
    let command = Command::new(NAME).about(about);
    if let Err(answer) = matches(command, std::env::args_os()) {
        answer.give()
    }
}

/// Reads these arguments, of which the first is the program.
pub(crate) fn read<T: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<T, Answer> {
    let matches = matches(T::command(), args)?;
    T::from_arg_matches(&matches).map_err(|error| Answer::Refusal(line(error)))
}

/// Says why the arguments cannot be used, and exits.
pub(crate) fn refuse(why: impl Display) -> ! {
    Answer::Refusal(why.to_string()).give()
}

/// Passes a result on, unless the error is that an address given as an argument cannot be used.
pub(crate) fn usable<T>(result: Result<T, coalescent::Error>) -> Result<T, coalescent::Error> {
    match result {
        Err(error) if error.is_config() || error.is_plaintext() => refuse(error.report()),
        result => result,
    }
}

impl Answer {
    fn give(self) -> ! {
        match self {
            Self::Text(text) => {
                let written = std::io::stdout().write_all(text.as_bytes());
                exit(i32::from(written.is_err()));
            }
            Self::Refusal(why) => {
                let why = why.replace(char::is_control, "?");
                let _ = writeln!(std::io::stderr(), "{NAME}: {why}");
                exit(2);
            }
        }
    }
}

fn matches(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, Answer> {
    let mut command = command
        .name(NAME)
        // An option that is given again replaces what it was; those that collect do not.
        .args_override_self(true)
        // Whatever follows an option is its value, also `-1` and `--name`.
        .mut_args(|arg| match arg.get_action().takes_values() {
            true if !arg.is_positional() => arg.allow_hyphen_values(true),
            _ => arg,
        })
        // Options and what they do stand on one line.
        .term_width(0);
    let args: Vec<OsString> = args.into_iter().collect();
    let read = command.try_get_matches_from_mut(&args);
    read.map_err(|error| match error.kind() {
        _ if !error.use_stderr() => Answer::Text(error.to_string()),
        ErrorKind::InvalidUtf8 => Answer::Refusal(not_utf8(&mut command, &args)),
        _ => Answer::Refusal(line(error)),
    })
}

/// Returns an error of `clap` as one line that keeps its suggestion.
fn line(mut error: clap::Error) -> String {
    use ContextKind::{InvalidArg, InvalidValue, SuggestedArg, SuggestedValue, ValidValue};
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(shown(text)),
        _ => None,
    };
    let list = |kind| match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let similar = [SuggestedArg, SuggestedValue]
        .into_iter()
        .find_map(|kind| text(&error, kind));
    let (choices, missing) = (list(ValidValue), list(InvalidArg));
    // Without the form of its value, or a sign that there may be more.
    let arg = text(&error, InvalidArg).map(|arg| match arg.split_once(" <") {
        Some((option, _)) => option.to_owned(),
        None => arg.trim_end_matches("...").to_owned(),
    });
    let value = text(&error, InvalidValue).filter(|value| !value.is_empty());
    let why = error.source().map(|why| report(why).to_string());
    let said = match (error.kind(), arg, value, why) {
        // Errors of addresses show the text themselves.
        (_, Some(arg), _, Some(why)) if why.starts_with('"') => return format!("{arg} {why}"),
        (_, Some(arg), value, Some(why)) => {
            return format!("{arg} \"{}\": {why}", value.unwrap_or_default());
        }
        (ErrorKind::InvalidValue, Some(arg), Some(value), None) => {
            format!("{arg} \"{value}\": write one of {}", choices.join(", "))
        }
        (ErrorKind::MissingRequiredArgument, ..) => format!("give {}", missing.join(" ")),
        (ErrorKind::TooManyValues, Some(arg), Some(value), None) => {
            format!("{arg} takes no value: leave out \"{value}\"")
        }
        (ErrorKind::UnknownArgument, Some(arg), ..) => format!("unexpected argument '{arg}'"),
        (ErrorKind::InvalidValue, Some(arg), None, None) => format!("{arg} needs a value"),
        _ => {
            // The first paragraph of what clap would print.
            error.remove(ContextKind::Usage);
            let text = error.to_string();
            let text = text.split("\n\n").next().unwrap_or_default();
            let lines = text.trim_start_matches("error: ").lines();
            lines.map(str::trim).collect::<Vec<_>>().join(" ")
        }
    };
    match similar {
        Some(similar) => format!("{said}: did you mean '{similar}'? See --help"),
        None => format!("{said}; see --help"),
    }
}

/// Names the argument that is not UTF-8: the last of the shortest command line with that error.
fn not_utf8(command: &mut Command, args: &[OsString]) -> String {
    let fails = |end: &usize| {
        let read = command.try_get_matches_from_mut(&args[..*end]);
        read.is_err_and(|error| error.kind() == ErrorKind::InvalidUtf8)
    };
    let end = (1..=args.len()).find(fails).unwrap_or(args.len());
    let from = match args.get(end.saturating_sub(2)) {
        // The value of an option, and not the program.
        Some(before) if end > 2 && before.as_encoded_bytes().starts_with(b"-") => end - 2,
        _ => end.saturating_sub(1),
    };
    let words = args[from..end]
        .iter()
        .map(|arg| shown(&arg.to_string_lossy()));
    format!("{} is not UTF-8", words.collect::<Vec<_>>().join(" "))
}

/// Returns the beginning of an argument, without characters that would end the line.
fn shown(text: &str) -> String {
    text.chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}

/// Checks a `HOST:PORT`, or the like of another scheme, to listen on; port 0 is allowed and selects
/// any free port.
pub(crate) fn listen(text: &str) -> Result<String, String> {
    // `Address` is for dialling and rejects port 0; all other rules are the same.
    let place = text.find("://").map_or(0, |colon| colon + 3);
    let end = text[place..]
        .find('/')
        .map_or(text.len(), |slash| place + slash);
    let dialled = match text[..end].strip_suffix(":0") {
        Some(host) => format!("{host}:1{}", &text[end..]),
        None => text.to_owned(),
    };
    let parsed = dialled.parse();
    let address: Address =
        parsed.map_err(|error| format!("{error}").replacen(&dialled, text, 1))?;
    if address.id().is_some() {
        return Err("write HOST:PORT; this node's own identity comes from its key".to_owned());
    }
    Ok(text.to_owned())
}

/// Checks a `HOST:PORT` to listen on, where no other scheme will do.
pub(crate) fn listen_tcp(text: &str) -> Result<String, String> {
    let checked = listen(text)?;
    let other = text.contains('/')
        || text
            .parse()
            .is_ok_and(|addr: Address| addr.scheme() != "tcp");
    match other {
        true => Err("write HOST:PORT, without a scheme".to_owned()),
        false => Ok(checked),
    }
}

/// Returns a parser of numbers in a range.
pub(crate) fn number<T: Clone + FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("write a number from {} to {}", range.start(), range.end()))
    }
}
