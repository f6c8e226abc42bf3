//! What can be wrong with the file of a book.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the file of an address book. Its text is one line that says what to do; the cause,
/// if there is one, is its [`source`](std::error::Error::source).
#[derive(Debug)]
#[non_exhaustive]
pub struct BookError {
    problem: Problem,
    path: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) enum Problem {
    Damaged(&'static str),
    /// Damaged, and kept under this other name.
    Kept(&'static str, PathBuf, Replaced),
    /// Damaged, and could not be renamed.
    NotKept(&'static str, io::Error),
    Empty,
    Directory,
    NotAFile,
    NoFolder(PathBuf),
    Read(io::Error),
    Write(io::Error),
}

/// Whether a file was there already that had this name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replaced(pub(super) bool);

impl BookError {
    pub(super) fn damaged(why: &'static str) -> Self {
        Self {
            problem: Problem::Damaged(why),
            path: None,
        }
    }

    pub(super) fn at(problem: Problem, path: &Path) -> Self {
        Self {
            problem,
            path: Some(path.into()),
        }
    }

    /// Returns whether the contents of the file are not those of an address book.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(
            self.problem,
            Problem::Damaged(_) | Problem::Kept(..) | Problem::NotKept(..) | Problem::Empty
        )
    }

    /// Returns whether the file could not be read or written.
    #[must_use]
    pub fn is_io(&self) -> bool {
        !self.is_damaged()
    }

    /// Returns whether a file that could not be loaded can be replaced without losing what it
    /// holds.
    pub(super) fn is_replaceable(&self) -> bool {
        match self.problem {
            Problem::Kept(..) | Problem::Empty | Problem::NoFolder(_) => true,
            Problem::Damaged(_)
            | Problem::NotKept(..)
            | Problem::Directory
            | Problem::NotAFile
            | Problem::Read(_)
            | Problem::Write(_) => false,
        }
    }

    pub(super) fn why_damaged(&self) -> Option<&'static str> {
        match self.problem {
            Problem::Damaged(why) => Some(why),
            _ => None,
        }
    }
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("address book")?;
        if let Some(path) = &self.path {
            write!(f, " {path:?}")?;
        }
        match &self.problem {
            Problem::Damaged(why) => write!(f, ": this is no address book: {why}"),
            Problem::Kept(why, kept, Replaced(is_replaced)) => {
                let instead = match is_replaced {
                    true => " in place of an older one",
                    false => "",
                };
                write!(
                    f,
                    " is not used: {why}; it is kept as {kept:?}{instead}, and a new one is begun"
                )
            }
            Problem::NotKept(why, _) => write!(
                f,
                " is not used: {why}; it cannot be renamed, so nothing is saved: move it away, or name \
                 another file"
            ),
            Problem::Empty => f.write_str(" is empty; a new one is begun"),
            Problem::Directory => {
                f.write_str(" is a directory; name a file, which is made if it is not there")
            }
            Problem::NotAFile => f.write_str(" is not a regular file; name another"),
            Problem::NoFolder(folder) => {
                write!(
                    f,
                    ": there is no folder {folder:?}; create it, or name another file"
                )
            }
            Problem::Read(_) => f.write_str(
                " cannot be read, and nothing is saved: let this user read and write it, or name \
                 another file",
            ),
            Problem::Write(error) if is_full(error) => f.write_str(
                " cannot be saved; make room: the last one that was saved is still there",
            ),
            Problem::Write(_) => f.write_str(
                " cannot be saved; let this user write to its folder, or name another file",
            ),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl std::error::Error for BookError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::NotKept(_, error) | Problem::Read(error) | Problem::Write(error) => {
                Some(error)
            }
            _ => None,
        }
    }
}
