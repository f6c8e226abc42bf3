//! Errors of other crates, with what they mean here.

use std::error::Error;
use std::{fmt, io};

/// A text that says what failed, and the error behind it.
#[derive(Debug)]
struct Caused {
    text: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl Error for Caused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// Returns an error of this kind and text with a cause.
pub(super) fn caused(
    kind: io::ErrorKind,
    text: &'static str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> io::Error {
    let source = source.into();
    io::Error::new(kind, Caused { text, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_its_own_text() {
        let cause = io::Error::from(io::ErrorKind::InvalidData);
        let error = caused(io::ErrorKind::Other, "no WebSocket server is there", cause);
        coalescent_core::test_util::check_levels(&error);
        assert_eq!(error.to_string(), "no WebSocket server is there");
    }
}
