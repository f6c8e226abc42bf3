//! Displaying an error together with its causes.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};

use super::chain;
use crate::text::{CAUSE_MAX, OneLine};

/// The maximum number of characters of the error itself that are shown. Its causes together get
/// [`CAUSE_MAX`] more.
const OWN_MAX: usize = 2 * CAUSE_MAX;

/// The maximum number of causes that are looked at. Nothing keeps a foreign error from being its
/// own cause.
const MAX_CAUSES: usize = 32;

/// Displays an error and its causes on one line, each level once.
///
/// Created by [`report`](fn@report) and [`Error::report`](super::Error::report). The levels are
/// joined by `": "`. Control characters are escaped, and long texts are cut, since causes may quote
/// a peer. What a level's text ends with is not repeated, because many errors of other crates
/// display their cause as a part of their own text.
#[derive(Clone, Copy)]
pub struct Report<'a>(&'a (dyn StdError + 'static));

/// Displays any error and its causes on one line: `println!("{}", report(&error))`.
///
/// The [`Display`](fmt::Display) of an error shows its own level only. For a `Box<dyn Error>` write
/// `report(&*error)`.
///
/// ```
/// use coalescent::{Error, report};
///
/// let error = Error::offence("the checksum is wrong");
/// assert_eq!(error.to_string(), "a frame could not be handled");
/// assert_eq!(
///     report(&error).to_string(),
///     "a frame could not be handled: the checksum is wrong"
/// );
/// ```
#[must_use]
pub fn report<'a>(error: &'a (dyn StdError + 'static)) -> Report<'a> {
    Report(error)
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = levels(self.0);
        let mut levels = levels.iter();
        if let Some(own) = levels.next() {
            f.write_str(own)?;
        }
        let mut causes = OneLine::new(f, CAUSE_MAX);
        for cause in levels {
            write!(causes, ": {cause}")?;
        }
        if causes.is_whole() {
            return Ok(());
        }
        f.write_char('…')
    }
}

/// The same line as [`Display`](fmt::Display), so that a report can be returned as an error.
impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the texts of an error and its causes, each on one line, without those that the level
/// before ends with.
fn levels(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut levels: Vec<String> = Vec::new();
    let texts: Vec<String> = chain(error).take(1 + MAX_CAUSES).map(one_line).collect();
    // From the innermost, so that a text is compared with all that follows it. `levels` is in
    // reverse order.
    for text in texts.into_iter().rev().filter(|text| !text.is_empty()) {
        let mut behind = String::new();
        let mut contained = 0;
        for (index, level) in levels.iter().rev().enumerate() {
            if index > 0 {
                behind.push_str(": ");
            }
            behind.push_str(level);
            if ends_with(&text, &behind) {
                contained = index + 1;
            }
        }
        levels.truncate(levels.len() - contained);
        levels.push(text);
    }
    levels.reverse();
    levels
}

/// Returns whether `text` ends with `end`, and not in the middle of a word.
fn ends_with(text: &str, end: &str) -> bool {
    text.strip_suffix(end)
        .is_some_and(|before| !before.ends_with(char::is_alphanumeric))
}

/// Returns an error's own text on one line, cut if it is long.
fn one_line(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut out = OneLine::new(&mut text, OWN_MAX);
    // Writing to a string cannot fail, but a foreign error may.
    let _ = write!(out, "{error}");
    if !out.is_whole() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::{BoxError, Error};
    use super::*;

    /// An error of another crate, with a text and a cause.
    #[derive(Debug)]
    struct Level(&'static str, Option<BoxError>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Level {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    /// Makes errors that cause each other, outermost first.
    fn nested(texts: &[&'static str]) -> Level {
        let (first, rest) = texts.split_first().unwrap();
        let cause = (!rest.is_empty()).then(|| nested(rest).into());
        Level(first, cause)
    }

    #[test]
    fn each_level_is_shown_once() {
        let table: [(&[&str], &str); 11] = [
            (&["a"], "a"),
            (&["a", "b", "c"], "a: b: c"),
            // Displays its cause, or all of them.
            (&["a: b", "b", "c"], "a: b: c"),
            (&["a: b: c", "b", "c"], "a: b: c"),
            (&["a: b: c", "b: c", "c"], "a: b: c"),
            (&["a", "b: c", "c"], "a: b: c"),
            // Adds nothing, or has no text.
            (&["a", "a", "b"], "a: b"),
            (&["", "a", "", "b"], "a: b"),
            // A part of a word is another text.
            (&["cannot open", "open", "pen"], "cannot open: pen"),
            (&["reopen", "open"], "reopen: open"),
            (&["a\nb", "b\x1b[2J"], "a\\nb: b\\u{1b}[2J"),
        ];
        for (texts, expected) in table {
            assert_eq!(report(&nested(texts)).to_string(), expected, "{texts:?}");
        }
    }

    #[test]
    fn an_io_error_is_no_level_of_its_own() {
        let inner = || io::Error::other(nested(&["a", "b"]));
        assert_eq!(report(&inner()).to_string(), "a: b");
        assert_eq!(report(&io::Error::other(inner())).to_string(), "a: b");
        let error = Error::dial("here", io::Error::other(Error::encode(inner())));
        assert_eq!(error.to_string(), "cannot connect to here");
        assert_eq!(
            error.report().to_string(),
            "cannot connect to here: the payload cannot be sent: a: b"
        );
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(report(&refused).to_string(), refused.to_string());
    }

    #[test]
    fn a_report_is_bounded() {
        #[derive(Debug)]
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..1 << 16).try_for_each(|number| writeln!(f, "{number}"))
            }
        }
        impl StdError for Endless {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&Self)
            }
        }
        let text = report(&Endless).to_string();
        assert!(text.ends_with('…') && text.lines().count() == 1, "{text}");
        assert!(text.chars().count() <= OWN_MAX + CAUSE_MAX + 2);
        let caused = Error::handshake(Endless).report().to_string();
        assert!(caused.chars().count() < CAUSE_MAX + 64, "{caused}");
    }
}
