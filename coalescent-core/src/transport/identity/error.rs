use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::error::report;

/// The error of loading or creating a key.
///
/// Its text names the file, if there is one, and says what to do. The cause is its
/// [`source`](Error::source).
///
/// [`Debug`](fmt::Debug) shows the [report](fn@crate::report), as of [`Error`](crate::Error), since
/// programs often return it from `main`.
pub struct IdentityError {
    problem: IdentityProblem,
    path: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) enum IdentityProblem {
    Read(io::Error),
    Create(io::Error),
    Directory,
    NotAFile,
    #[cfg(unix)]
    Permissions(u32),
    TooLarge(u64),
    NoKey,
    Encrypted,
    Damaged,
    OtherKey,
}

impl IdentityError {
    pub(super) fn at(self, path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..self
        }
    }

    pub(super) fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.problem {
            IdentityProblem::Read(error) | IdentityProblem::Create(error) => Some(error.kind()),
            _ => None,
        }
    }

    /// Returns whether the file could not be read or created at all.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(
            self.problem,
            IdentityProblem::Read(_)
                | IdentityProblem::Create(_)
                | IdentityProblem::Directory
                | IdentityProblem::NotAFile
        )
    }

    /// Returns whether the file was rejected because users other than its owner can read or write
    /// it.
    #[must_use]
    pub fn is_permissions(&self) -> bool {
        #[cfg(unix)]
        return matches!(self.problem, IdentityProblem::Permissions(_));
        #[cfg(not(unix))]
        return false;
    }

    /// Returns whether the contents are not a key, a damaged key, or a key of another type than
    /// ed25519.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(
            self.problem,
            IdentityProblem::TooLarge(_)
                | IdentityProblem::NoKey
                | IdentityProblem::Encrypted
                | IdentityProblem::Damaged
                | IdentityProblem::OtherKey
        )
    }

    /// Returns the path of the affected file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl From<IdentityProblem> for IdentityError {
    fn from(problem: IdentityProblem) -> Self {
        Self {
            problem,
            path: None,
        }
    }
}

impl fmt::Debug for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(&report(self), f);
        }
        f.debug_struct("IdentityError")
            .field("problem", &self.problem)
            .field("path", &self.path)
            .finish()
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "key file {}: ", path.display())?,
            None => f.write_str("key: ")?,
        }
        match &self.problem {
            IdentityProblem::Read(_) => f.write_str("cannot be read"),
            IdentityProblem::Create(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("cannot be made because its directory is missing: make that first")
            }
            IdentityProblem::Create(_) => f.write_str("cannot be made"),
            IdentityProblem::Directory => f.write_str("is a directory: name a file in it"),
            IdentityProblem::NotAFile => f.write_str("is not a regular file: name one"),
            #[cfg(unix)]
            IdentityProblem::Permissions(mode) => write!(
                f,
                "others than its owner can use it (mode {mode:04o}): run `chmod 600 {}`",
                self.path.as_deref().unwrap_or(Path::new("FILE")).display()
            ),
            IdentityProblem::TooLarge(limit) => {
                write!(f, "is larger than {limit} bytes, so it is no key: {HOW_TO}")
            }
            IdentityProblem::NoKey => write!(f, "has no `BEGIN PRIVATE KEY` section: {HOW_TO}"),
            IdentityProblem::Encrypted => f.write_str(
                "is encrypted with a passphrase: write it without one, \
                 `openssl pkey -in FILE -out NEW`",
            ),
            IdentityProblem::Damaged => {
                write!(
                    f,
                    "is damaged or cut short: restore it from a copy, or {HOW_TO}"
                )
            }
            IdentityProblem::OtherKey => write!(f, "is not an ed25519 key: {HOW_TO}"),
        }
    }
}

const HOW_TO: &str = "make a new one with `openssl genpkey -algorithm ed25519 -out FILE`, \
                      or name a file that does not exist yet";

impl Error for IdentityError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            IdentityProblem::Read(error) | IdentityProblem::Create(error) => Some(error),
            _ => None,
        }
    }
}
