//! Key files that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::IdentityProblem;
use super::secret::random;
use super::{IdentityError, push_hex};

/// The largest key file that is read, in bytes. A file written by this library has 119.
const MAX_FILE: u64 = 16 * 1024;

/// Reads a key file, after checking that only its owner can access it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    // Checked before opening, because opening a pipe could block forever.
    let metadata = fs::metadata(path).map_err(IdentityProblem::Read)?;
    if metadata.is_dir() {
        return Err(IdentityProblem::Directory.into());
    }
    if !metadata.is_file() {
        return Err(IdentityProblem::NotAFile.into());
    }
    let file = File::open(path).map_err(IdentityProblem::Read)?;
    check_private(&file)?;
    let mut pem = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut pem)
        .map_err(IdentityProblem::Read)?;
    if pem.len() as u64 > MAX_FILE {
        return Err(IdentityProblem::TooLarge(MAX_FILE).into());
    }
    Ok(pem)
}

/// Checks the opened file, since its path may refer to another file by now.
#[cfg(unix)]
fn check_private(file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = file
        .metadata()
        .map_err(IdentityProblem::Read)?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityProblem::Permissions(mode).into());
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &File) -> Result<(), IdentityError> {
    Ok(())
}

/// Creates `path` with the contents `pem`, completely or not at all, and never replaces a file.
///
/// Returns false if the file exists already.
pub(super) fn publish(path: &Path, pem: &[u8]) -> Result<bool, IdentityError> {
    publish_with(path, pem, |from, to| fs::hard_link(from, to))
}

fn publish_with(
    path: &Path,
    pem: &[u8],
    link: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<bool, IdentityError> {
    let draft = draft_path(path);
    write_new(&draft, pem).map_err(IdentityProblem::Create)?;
    // Unlike a rename, a link never replaces an existing file: of two concurrent calls, one wins.
    let linked = link(&draft, path);
    let made = match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // A file system without links. Still exclusive, but another process may see the file
        // half-written.
        Err(_) => match write_new(path, pem) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(IdentityProblem::Create(error).into()),
        },
    };
    // A leftover draft is private too, so failing to remove it is harmless.
    let _ = fs::remove_file(&draft);
    sync_directory(path);
    made
}

/// Returns a name beside `path`, whose length does not depend on the file name.
fn draft_path(path: &Path) -> PathBuf {
    let mut name = String::from(".coalescent-key-");
    push_hex(&mut name, &random::<8>());
    path.with_file_name(name)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Makes the new name survive a power failure, if directories can be synced.
fn sync_directory(path: &Path) {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_links_an_existing_file_is_still_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let no_links = |_: &Path, _: &Path| Err(io::ErrorKind::Unsupported.into());
        assert!(publish_with(&path, b"first", no_links).unwrap());
        assert!(!publish_with(&path, b"second", no_links).unwrap());
        assert_eq!(read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
