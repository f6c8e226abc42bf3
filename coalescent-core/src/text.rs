//! Displaying text that others sent: escaped, on one line, truncated.

use std::fmt::{self, Write as _};

/// The maximum number of characters of an error's causes that are shown. They may quote a peer at
/// any length.
pub(crate) const CAUSE_MAX: usize = 512;

/// Text from a peer, displayed escaped and truncated to [`Escaped::MAX`] characters.
///
/// ```
/// use coalescent::event::Escaped;
///
/// assert_eq!(Escaped("a\x1b[2Jb").to_string(), "a\\u{1b}[2Jb");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl Escaped<'_> {
    /// The maximum number of characters that are displayed, including escapes.
    pub const MAX: usize = 64;
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for char in self.0.chars() {
            let width = if is_plain(char) && char != '\\' {
                1
            } else {
                char.escape_default().count()
            };
            if shown + width > Self::MAX {
                return Ok(());
            }
            shown += width;
            if width == 1 {
                f.write_char(char)?;
            } else {
                write!(f, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Returns whether a character is displayed unescaped. Letters of any script stay readable;
/// characters that move the cursor or hide text do not pass.
fn is_plain(char: char) -> bool {
    char == ' ' || (!char.is_control() && !char.is_whitespace() && !hides(char))
}

/// A writer that passes on a limited number of characters of text that may quote a peer, such as a
/// handler's error. It escapes like [`Escaped`], except for backslashes, since most of the text is
/// not from a peer.
pub(crate) struct OneLine<'a, W> {
    out: &'a mut W,
    /// The number of characters left; `None` once the text was truncated.
    left: Option<usize>,
}

impl<'a, W: fmt::Write> OneLine<'a, W> {
    pub(crate) fn new(out: &'a mut W, max: usize) -> Self {
        Self {
            out,
            left: Some(max),
        }
    }

    /// Returns whether the text was passed on completely.
    pub(crate) fn is_whole(&self) -> bool {
        self.left.is_some()
    }
}

impl<W: fmt::Write> fmt::Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let plain = is_plain(char);
            let width = if plain {
                1
            } else {
                char.escape_default().count()
            };
            self.left = self.left.and_then(|left| left.checked_sub(width));
            if self.left.is_none() {
                return Ok(());
            }
            if plain {
                self.out.write_char(char)?;
            } else {
                write!(self.out, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Returns whether a character changes how its neighbours are displayed: zero-width and
/// bidirectional controls.
fn hides(char: char) -> bool {
    matches!(
        u32::from(char),
        0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF
            | 0xFFF0..=0xFFFB | 0xE0000..=0xE0FFF
    )
}

/// Returns the longest prefix of `text` that takes at most `max` bytes.
pub(crate) fn truncate(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_is_short_and_cannot_move_a_cursor() {
        assert_eq!(Escaped("héllo wörld").to_string(), "héllo wörld");
        assert_eq!(
            Escaped("a\nb\u{202e}c\\").to_string(),
            "a\\nb\\u{202e}c\\\\"
        );
        assert_eq!(Escaped(&"x".repeat(1000)).to_string().len(), Escaped::MAX);
        assert!(Escaped(&"\n".repeat(1000)).to_string().chars().count() <= Escaped::MAX);
    }
}
