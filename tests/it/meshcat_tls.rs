//! `meshcat` with TLS, from outside: identities, who is let in, and where plaintext is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::{Cat, Stats};

/// A directory of this test alone, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let name = format!("tls-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn identity(directory: &Directory, name: &str) -> String {
    format!("--identity {}", directory.file(name))
}

/// The id of the key in a file, made if missing: what a peer sees.
fn id_of(directory: &Directory, name: &str) -> String {
    let listener = Cat::listen(&identity(directory, name));
    let other = Cat::start(&format!(
        "--seed {} {}",
        listener.addr(),
        identity(directory, "asking")
    ));
    other.connected().text("peer").to_owned()
}

#[test]
fn an_identity_is_made_once_for_its_owner_alone() {
    let directory = Directory::new("made");
    let first = id_of(&directory, "key");
    assert_eq!(first.len(), 64, "{first}");
    let file = directory.file("key");
    let mode = fs::metadata(&file)
        .expect("it is made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let key = fs::read(&file).expect("it is made");

    assert_eq!(id_of(&directory, "key"), first);
    assert_eq!(fs::read(&file).expect("it is there"), key);
    assert_ne!(id_of(&directory, "another"), first);
}

#[test]
fn a_file_that_is_no_identity_is_refused_and_left_alone() {
    let directory = Directory::new("broken");
    let file = directory.file("key");
    fs::write(&file, "no key").expect("a file");
    let mut command = Cat::command(&format!("--listen 127.0.0.1:0 --identity {file}"));
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(fs::read(&file).expect("it is there"), b"no key");
}

#[test]
fn lines_cross_tls_between_peers_that_know_each_other() {
    let directory = Directory::new("cross");
    let (a, b) = (id_of(&directory, "a"), id_of(&directory, "b"));
    let options = format!("{} --allow {b}", identity(&directory, "a"));
    let mut first = Cat::listen(&options);
    let seed = format!("{a}@{}", first.addr());
    let mut second = Cat::start(&format!("--seed {seed} {}", identity(&directory, "b")));
    assert_eq!(second.connected().text("peer"), a);
    assert_eq!(first.connected().text("peer"), b);

    second.say("beep");
    first.hear("beep");
    first.say("boop");
    second.hear("boop");
    assert_eq!(second.stop().received, 1);
    assert_eq!(first.stop().received, 1);
}

#[test]
fn a_seed_of_another_identity_is_refused() {
    let directory = Directory::new("wrong");
    let wrong = id_of(&directory, "wrong");
    let mut first = Cat::listen(&identity(&directory, "a"));
    let seed = format!("{wrong}@{}", first.addr());
    let mut second = Cat::start(&format!("--seed {seed} {}", identity(&directory, "b")));

    second.error("");
    assert_eq!(second.stop(), Stats::default());
    first.stop();
    let events = second.process().stderr().all().concat();
    assert!(!events.contains("peer_connected"), "{events}");
}

#[test]
fn who_is_not_on_the_list_is_refused_on_either_side() {
    let directory = Directory::new("list");
    let (a, b) = (id_of(&directory, "a"), id_of(&directory, "b"));
    let (key_a, key_b) = (identity(&directory, "a"), identity(&directory, "b"));
    let stranger = identity(&directory, "stranger");

    // The listener's list, with several on it.
    let mut first = Cat::listen(&format!("{key_a} --allow {a} --allow {b}"));
    let mut refused = Cat::start(&format!("--seed {} {stranger}", first.addr()));
    first.error("");
    refused.error("");
    let known = Cat::dial(&first.addr(), &key_b);
    assert_eq!(first.connected().text("peer"), b);
    drop(known);
    refused.stop();
    first.stop();
    let events = first.process().stderr().all();
    let connected = events.iter().filter(|line| line.contains("peer_connected"));
    assert_eq!(connected.count(), 1, "{events:#?}");

    // The dialler's list.
    let first = Cat::listen(&stranger);
    let mut second = Cat::start(&format!("--seed {} {key_b} --allow {a}", first.addr()));
    second.error("");
    second.stop();
    let events = second.process().stderr().all().concat();
    assert!(!events.contains("peer_connected"), "{events}");
}

#[test]
fn tls_and_plaintext_do_not_talk() {
    let directory = Directory::new("mixed");
    let key = identity(&directory, "a");
    for (listens, dials) in [(&*key, ""), ("", &*key)] {
        let mut first = Cat::listen(listens);
        let mut second = Cat::start(&format!("--seed {} {dials}", first.addr()));
        second.say("beep");
        first.error("");
        second.error("");
        assert_eq!(second.stop(), Stats::default());
        assert_eq!(first.stop(), Stats::default());
        assert_eq!(first.heard(), Vec::<String>::new());
    }
}

#[test]
fn plaintext_beyond_loopback_is_refused_unless_it_is_asked_for() {
    let directory = Directory::new("plain");
    let mut command = Cat::command("--listen 0.0.0.0:0");
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("--identity"), "{text}");
    assert!(text.contains("--allow-plaintext"), "{text}");

    let key = identity(&directory, "a");
    for allowed in ["--allow-plaintext", &key] {
        let mut cat = Cat::start(&format!("--listen 0.0.0.0:0 {allowed}"));
        let line = cat.process().wait_stderr_event("listening");
        assert!(line.text("addr").starts_with("0.0.0.0:"), "{}", line.0);
        cat.stop();
    }

    // An address of a network for documentation, where nobody is; it is not even dialled.
    let mut cat = Cat::start("--seed 192.0.2.1:1337");
    let error = cat.error("").text("error").to_owned();
    assert!(
        error.contains("plaintext") || error.contains("identity"),
        "{error}"
    );
    cat.stop();
}
