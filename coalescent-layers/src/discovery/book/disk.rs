//! The file of a book on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::{BookError, Problem, Replaced};
use super::format::BOOK_FILE_MAX;
use super::table::Table;

/// How old a draft must be to be taken for one that a process has left behind which ended while it
/// wrote: 3 minutes. A younger one may be in the making.
pub const DRAFT_KEPT: Duration = Duration::from_secs(180);

/// How the names of drafts begin. 16 hexadecimal digits follow.
const DRAFT: &str = ".coalescent-book-";

/// How many links are followed to a file that is not there yet.
const MAX_LINKS: usize = 40;

/// Reads a book from its file; `Ok(None)` if there is no file yet. It blocks.
///
/// A file that is no book, because it is damaged or is something else, is renamed to `FILE.bad`,
/// which may replace an older one.
///
/// Drafts in its folder that nobody can be writing any more are removed.
///
/// # Errors
///
/// What the file is instead, and what became of it.
pub(super) fn load(path: &Path, seed: u64) -> Result<Option<Table>, BookError> {
    let fail = |problem| Err(BookError::at(problem, path));
    let target = target(path);
    remove_drafts(folder(&target), SystemTime::now());
    // Asked before opening, because opening a pipe could block for ever.
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match folder(&target) {
                folder if folder.is_dir() => Ok(None),
                folder => fail(Problem::NoFolder(folder.into())),
            };
        }
        Err(error) => return fail(Problem::Read(error)),
    };
    if metadata.is_dir() {
        return fail(Problem::Directory);
    }
    if !metadata.is_file() {
        return fail(Problem::NotAFile);
    }
    let bytes = match read(path) {
        Ok(bytes) if bytes.is_empty() => return fail(Problem::Empty),
        Ok(bytes) => bytes,
        Err(error) => return fail(Problem::Read(error)),
    };
    let error = match Table::decode(&bytes, seed) {
        Ok(table) => return Ok(Some(table)),
        Err(error) => error,
    };
    let why = error.why_damaged().unwrap_or("it cannot be read");
    let kept = bad_path(path);
    let is_replaced = fs::symlink_metadata(&kept).is_ok();
    fail(match fs::rename(path, &kept) {
        Ok(()) => Problem::Kept(why, kept, Replaced(is_replaced)),
        Err(error) => Problem::NotKept(why, error),
    })
}

/// Reads a file, but not more of it than shows that it is too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = BOOK_FILE_MAX as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a book beside its file, and renames it: whoever reads the file finds the old or the new
/// one, whatever happens meanwhile. It blocks.
///
/// Of several processes that save to one file, the last one wins. Drafts in its folder that nobody
/// can be writing any more are removed.
pub(super) fn save(path: &Path, book: &[u8]) -> Result<(), BookError> {
    save_with(path, |file| {
        file.write_all(book).and_then(|()| file.sync_all())
    })
}

fn save_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), BookError> {
    let fail = |problem| BookError::at(problem, path);
    let target = target(path);
    if target.is_dir() {
        return Err(fail(Problem::Directory));
    }
    if !folder(&target).is_dir() {
        return Err(fail(Problem::NoFolder(folder(&target).into())));
    }
    let draft = draft_path(&target);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut file| {
        let renamed = write(&mut file).and_then(|()| fs::rename(&draft, &target));
        if renamed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        renamed
    });
    written.map_err(|error| fail(Problem::Write(error)))?;
    // So that the new name survives a power failure, where folders can be synced.
    if let Ok(folder) = File::open(folder(&target)) {
        let _ = folder.sync_all();
    }
    remove_drafts(folder(&target), SystemTime::now());
    Ok(())
}

/// Returns the file that is meant: a link to it stays one, even if the file is not there yet.
fn target(path: &Path) -> PathBuf {
    if let Ok(target) = fs::canonicalize(path) {
        return target;
    }
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = folder(&target).join(next),
            Err(_) => break,
        }
    }
    target
}

/// Returns a name beside the file, whose length does not depend on that of the file, and which no
/// other process uses.
fn draft_path(path: &Path) -> PathBuf {
    path.with_file_name(format!("{DRAFT}{:016x}", rand::random::<u64>()))
}

/// Removes the old drafts in a folder, whichever book there they were for. What cannot be removed
/// stays.
fn remove_drafts(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let drafts = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_draft));
    for draft in drafts {
        // Of a link itself: what it leads to is nobody's draft.
        let modified = draft.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| is_old(modified, now)) {
            let _ = fs::remove_file(draft.path());
        }
    }
}

fn is_draft(name: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(DRAFT)
        .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(is_digit))
}

/// Returns whether a draft that was written last at this time is left behind. One from the future
/// is not: a clock is wrong.
fn is_old(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified)
        .is_ok_and(|age| age > DRAFT_KEPT)
}

fn bad_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    name.into()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
