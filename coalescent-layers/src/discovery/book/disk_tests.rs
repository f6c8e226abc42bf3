use coalescent_core::test_util::check_levels;
use tempfile::TempDir;

use super::super::table::tests::{at, spread};
use super::*;

fn table() -> Table {
    let mut table = Table::new([9; 16], 1);
    table.dialled_ok(&spread(1), at(0));
    table
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.book");
    (folder, path)
}

#[test]
fn what_is_saved_is_loaded() {
    let (folder, path) = folder();
    assert!(load(&path, 1).unwrap().is_none());
    save(&path, &Table::new([9; 16], 1).encode()).unwrap();
    save(&path, &table().encode()).unwrap();
    assert_eq!(load(&path, 1).unwrap().unwrap().encode(), table().encode());
    assert_eq!(names(&folder), ["peers.book"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn what_is_no_book_is_kept_beside() {
    let (folder, path) = folder();
    fs::write(&path, "my notes").unwrap();
    let error = load(&path, 1).unwrap_err();
    assert!(error.is_damaged() && error.is_replaceable(), "{error}");
    assert!(error.to_string().contains("peers.book.bad"), "{error}");
    assert_eq!(names(&folder), ["peers.book.bad"]);
    assert_eq!(
        fs::read(folder.path().join("peers.book.bad")).unwrap(),
        b"my notes"
    );
    assert!(load(&path, 1).unwrap().is_none());
}

#[test]
fn that_an_older_bad_file_is_replaced_is_said() {
    let (folder, path) = folder();
    for (text, is_said) in [("one", false), ("two", true)] {
        fs::write(&path, text).unwrap();
        let error = load(&path, 1).unwrap_err().to_string();
        assert_eq!(
            error.contains("in place of an older one"),
            is_said,
            "{error}"
        );
    }
    let bad = folder.path().join("peers.book.bad");
    assert_eq!(fs::read(bad).unwrap(), b"two");
}

#[test]
fn old_drafts_are_removed_at_the_start_and_whenever_a_book_is_saved() {
    let (folder, path) = folder();
    let file = |name: &str, age: Duration| {
        let file = File::create(folder.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    let (old, young) = (DRAFT_KEPT + Duration::from_secs(5), DRAFT_KEPT / 2);
    file(".coalescent-book-0123456789abcdef", old);
    file(".coalescent-book-1123456789abcdef", old);
    // Perhaps in the making, and what is none.
    file(".coalescent-book-2123456789abcdef", young);
    file(".coalescent-book-3123456789abcde", old);
    file(".coalescent-book-notes-of-a-user", old);
    assert!(load(&path, 1).unwrap().is_none());
    let left = [
        ".coalescent-book-2123456789abcdef",
        ".coalescent-book-3123456789abcde",
        ".coalescent-book-notes-of-a-user",
    ];
    assert_eq!(names(&folder), left);
    file(left[0], old);
    save(&path, &table().encode()).unwrap();
    assert_eq!(names(&folder), [left[1], left[2], "peers.book"]);
}

#[test]
fn a_draft_from_the_future_is_not_old() {
    let now = SystemTime::now();
    assert!(!is_old(now + DRAFT_KEPT * 2, now));
    assert!(!is_old(now - DRAFT_KEPT, now));
    assert!(is_old(now - DRAFT_KEPT - Duration::from_secs(1), now));
}

#[test]
fn a_torn_write_is_kept_beside() {
    let (folder, path) = folder();
    let bytes = table().encode();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(load(&path, 1).unwrap_err().is_damaged());
    assert_eq!(names(&folder), ["peers.book.bad"]);
}

#[test]
fn an_empty_file_is_only_reported() {
    let (folder, path) = folder();
    fs::write(&path, "").unwrap();
    let error = load(&path, 1).unwrap_err();
    assert!(error.is_replaceable(), "{error}");
    assert!(
        error.to_string().ends_with("is empty; a new one is begun"),
        "{error}"
    );
    assert_eq!(names(&folder), ["peers.book"]);
}

#[test]
fn a_huge_file_is_not_read() {
    let (folder, path) = folder();
    // It has no blocks on disk, and would not fit into memory.
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = load(&path, 1).unwrap_err();
    assert!(
        error.to_string().contains("larger than any address book"),
        "{error}"
    );
    assert_eq!(names(&folder), ["peers.book.bad"]);
}

#[test]
fn a_directory_is_left_alone() {
    let (folder, path) = folder();
    fs::create_dir(&path).unwrap();
    for error in [
        load(&path, 1).unwrap_err(),
        save(&path, b"book").unwrap_err(),
    ] {
        assert!(error.is_io() && !error.is_replaceable());
        assert!(
            error.to_string().contains("is a directory; name a file"),
            "{error}"
        );
    }
    assert_eq!(names(&folder), ["peers.book"]);
}

#[test]
fn a_missing_folder_is_said_at_once() {
    let (folder, path) = folder();
    let path = path.join("below");
    for error in [
        load(&path, 1).unwrap_err(),
        save(&path, b"book").unwrap_err(),
    ] {
        assert!(error.to_string().contains("there is no folder"), "{error}");
        assert!(error.is_replaceable(), "somebody may create it");
    }
    assert!(names(&folder).is_empty());
}

#[test]
fn a_full_disk_leaves_the_last_book() {
    let (folder, path) = folder();
    save(&path, &table().encode()).unwrap();
    let error = save_with(&path, |file| {
        file.write_all(b"half of a bo")?;
        Err(io::ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(names(&folder), ["peers.book"]);
    assert_eq!(load(&path, 1).unwrap().unwrap().encode(), table().encode());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_opened() {
    let (_folder, path) = folder();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no mkfifo here");
        return;
    }
    let error = load(&path, 1).unwrap_err();
    assert!(
        error.to_string().contains("is not a regular file"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link() {
    let (folder, path) = folder();
    let target = folder.path().join("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    save(&path, &table().encode()).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read(&target).unwrap(), table().encode());
    assert_eq!(names(&folder), ["peers.book", "target"]);
}

#[cfg(unix)]
#[test]
fn a_link_to_what_is_not_there_yet_stays_a_link() {
    use std::os::unix::fs::symlink;

    let (folder, path) = folder();
    let below = folder.path().join("below");
    symlink("below/second", &path).unwrap();
    for error in [
        load(&path, 1).unwrap_err(),
        save(&path, b"book").unwrap_err(),
    ] {
        assert!(error.to_string().contains("there is no folder"), "{error}");
    }
    fs::create_dir(&below).unwrap();
    symlink("target", below.join("second")).unwrap();
    assert!(load(&path, 1).unwrap().is_none());
    save(&path, &table().encode()).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read(below.join("target")).unwrap(), table().encode());
    assert_eq!(names(&folder), ["below", "peers.book"]);
}

#[cfg(unix)]
#[test]
fn what_may_not_be_read_or_written_is_said_and_left_alone() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, path) = folder();
    save(&path, &table().encode()).unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&path, 0o000);
    mode(folder.path(), 0o500);
    if File::open(&path).is_ok() {
        println!("skipped: this user may read everything");
        mode(folder.path(), 0o700);
        return;
    }
    let (read, written) = (
        load(&path, 1).unwrap_err(),
        save(&path, b"book").unwrap_err(),
    );
    mode(&path, 0o600);
    fs::write(&path, "no book").unwrap();
    let error = load(&path, 1).unwrap_err();
    assert!(!error.is_replaceable() && error.is_damaged(), "{error}");
    assert!(error.to_string().contains("cannot be renamed"), "{error}");
    mode(folder.path(), 0o700);
    assert!(read.to_string().contains("cannot be read"), "{read}");
    assert!(!read.is_replaceable());
    assert!(written.to_string().contains("cannot be saved"), "{written}");
    assert_eq!(names(&folder), ["peers.book"]);
}

#[cfg(target_os = "linux")]
#[test]
fn where_nothing_can_be_created_is_said() {
    let error = save(Path::new("/proc/peers.book"), b"book").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("let this user write to its folder"),
        "{error}"
    );
}

#[test]
fn an_error_with_a_cause_displays_its_own_level() {
    let cause = |kind| io::Error::from(kind);
    for problem in [
        Problem::Read(cause(io::ErrorKind::PermissionDenied)),
        Problem::Write(cause(io::ErrorKind::PermissionDenied)),
        Problem::Write(cause(io::ErrorKind::StorageFull)),
        Problem::NotKept("it is damaged", cause(io::ErrorKind::PermissionDenied)),
    ] {
        check_levels(&BookError::at(problem, Path::new("peers.book")));
    }
}
