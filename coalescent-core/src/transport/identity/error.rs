use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// The error of loading or creating a key.
///
/// Its text names the file, if there is one, and says what to do.
#[derive(Debug)]
pub struct IdentityError {
    problem: Problem,
    path: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) enum Problem {
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
            Problem::Read(error) | Problem::Create(error) => Some(error.kind()),
            _ => None,
        }
    }

    /// Returns whether the file could not be read or created at all.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(
            self.problem,
            Problem::Read(_) | Problem::Create(_) | Problem::Directory | Problem::NotAFile
        )
    }

    /// Returns whether the file was rejected because users other than its owner can read or write
    /// it.
    #[must_use]
    pub fn is_permissions(&self) -> bool {
        #[cfg(unix)]
        return matches!(self.problem, Problem::Permissions(_));
        #[cfg(not(unix))]
        return false;
    }

    /// Returns whether the contents are not a key, a damaged key, or a key of another type than
    /// ed25519.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(
            self.problem,
            Problem::TooLarge(_)
                | Problem::NoKey
                | Problem::Encrypted
                | Problem::Damaged
                | Problem::OtherKey
        )
    }

    /// Returns the path of the affected file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl From<Problem> for IdentityError {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            path: None,
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "key file {}: ", path.display())?,
            None => f.write_str("key: ")?,
        }
        match &self.problem {
            Problem::Read(error) => write!(f, "cannot be read: {error}"),
            Problem::Create(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("cannot be made because its directory is missing: make that first")
            }
            Problem::Create(error) => write!(f, "cannot be made: {error}"),
            Problem::Directory => f.write_str("is a directory: name a file in it"),
            Problem::NotAFile => f.write_str("is not a regular file: name one"),
            #[cfg(unix)]
            Problem::Permissions(mode) => write!(
                f,
                "others than its owner can use it (mode {mode:04o}): run `chmod 600 {}`",
                self.path.as_deref().unwrap_or(Path::new("FILE")).display()
            ),
            Problem::TooLarge(limit) => {
                write!(f, "is larger than {limit} bytes, so it is no key: {HOW_TO}")
            }
            Problem::NoKey => write!(f, "has no `BEGIN PRIVATE KEY` section: {HOW_TO}"),
            Problem::Encrypted => f.write_str(
                "is encrypted with a passphrase: write it without one, \
                 `openssl pkey -in FILE -out NEW`",
            ),
            Problem::Damaged => {
                write!(
                    f,
                    "is damaged or cut short: restore it from a copy, or {HOW_TO}"
                )
            }
            Problem::OtherKey => write!(f, "is not an ed25519 key: {HOW_TO}"),
        }
    }
}

const HOW_TO: &str = "make a new one with `openssl genpkey -algorithm ed25519 -out FILE`, \
                      or name a file that does not exist yet";

impl Error for IdentityError {}
