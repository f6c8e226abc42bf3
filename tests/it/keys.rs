//! That `docs/tls.md` says what is said when a key is wrong.

use coalescent::identity::Identity;
use coalescent::prelude::*;
use coalescent::transport::Allow;
use coalescent::{Error, Events};
use support::mesh::{addr, event};
use support::soon;

const DOCS: &str = include_str!("../../docs/tls.md");

/// The cells of the row of the table that begins with these words: what is said at either side.
fn row(what: &str) -> (String, String) {
    let mut rows = DOCS.lines().filter_map(|line| line.strip_prefix("| "));
    let row = rows.find(|row| row.starts_with(what));
    let row = row.unwrap_or_else(|| panic!("docs/tls.md has no row that begins with {what:?}"));
    let cells: Vec<_> = row
        .split(" | ")
        .map(|cell| cell.trim_end_matches(" |"))
        .collect();
    // The text, if there is one in the cell, without what is said of it.
    let said = |cell: &str| cell.split('`').nth(1).unwrap_or(cell).to_owned();
    let [_, dials, is_called] = cells[..] else {
        panic!("three cells: {row}");
    };
    (said(dials), said(is_called))
}

/// The innermost cause of an error, with `…` for ids.
fn said(error: &Error) -> String {
    let mut cause = error as &dyn std::error::Error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    let id = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = text.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .map(|word| {
            let bare = word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            match id(bare) {
                true => word.replace(bare, "…"),
                false => word.to_owned(),
            }
        })
        .collect()
}

/// Waits for the next error that is about no peer.
async fn error(events: &mut Events) -> String {
    event("an error", events, |event| match event {
        Event::Error { peer: None, error } => Some(said(&error)),
        _ => None,
    })
    .await
}

/// A node that is dialled, and one that dials it by this key. Returns what each of them is told.
async fn dial(called: Allow, dials: Allow, expected: Option<&Identity>) -> (String, String) {
    let identity = Identity::generate();
    let app = App::new().identity(identity.clone()).allow(called);
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut events = mesh.events();
    let app = App::new().identity(Identity::generate()).allow(dials);
    let other = app.start().await.expect("it starts");
    let at = match expected {
        Some(expected) => format!("{}@{}", expected.id(), addr(&mesh)),
        None => addr(&mesh),
    };
    let failed = other.connect(&at).await.expect_err("a key is wrong");
    assert!(failed.is_handshake(), "{failed}");
    let told = error(&mut events).await;
    assert!(other.peers().is_empty() && mesh.peers().is_empty());
    (said(&failed), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_than_the_address_names() {
    let wrong = Identity::generate();
    let told = dial(Allow::all(), Allow::all(), Some(&wrong)).await;
    assert_eq!(told, row("`ID@` names another key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_on_the_list_of_who_dials() {
    let told = dial(Allow::all(), Allow::only([]), None).await;
    let (dials, is_called) = row("the dialling side's list lacks the other");
    assert_eq!(is_called, "as above");
    assert_eq!(told, (dials, row("`ID@` names another key").1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_on_the_list_of_who_is_dialled() {
    let told = dial(Allow::only([]), Allow::all(), None).await;
    assert_eq!(told, row("the called side's list lacks the dialler"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_banned() {
    let app = App::new().identity(Identity::generate());
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let key = Identity::generate();
    let time = std::time::Duration::from_secs(600);
    mesh.ban(key.id(), time, "spam")
        .expect("a key can be banned");
    let other = App::new().identity(key).start().await.expect("it starts");
    let error = other.connect(&addr(&mesh)).await.expect_err("it is banned");
    assert!(error.is_banned(), "{error}");
    let (told, _) = row("a key is banned");
    assert!(error.to_string().ends_with(&told), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_process_has_too() {
    let app = App::new().identity(Identity::generate());
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let key = Identity::generate();
    let app = || App::new().identity(key.clone());
    let first = app().start().await.expect("it starts");
    first.connect(&addr(&mesh)).await.expect("a place");
    let second = app().start().await.expect("it starts");
    // The second cannot know it before it is told.
    let ended = async {
        match second.connect(&addr(&mesh)).await {
            Ok(peer) => peer.closed().await.to_string(),
            Err(error) => error.to_string(),
        }
    };
    let ended = soon("a refusal", ended).await;
    let (told, _) = row("another process with this key is connected");
    assert!(ended.ends_with(&told), "{ended}");
    assert_eq!(mesh.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_at_one_end_alone() {
    let app = |identity: bool| match identity {
        true => App::new().identity(Identity::generate()),
        false => App::new(),
    };
    for (who, dials_with, called_with) in [
        ("only the dialling side has an identity", true, false),
        ("only the called side has an identity", false, true),
    ] {
        let (dials, is_called) = row(who);
        let mesh = app(called_with).listen("127.0.0.1:0").await;
        let mesh = mesh.expect("it listens");
        let mut events = mesh.events();
        let other = app(dials_with).start().await.expect("it starts");
        let error = soon("an answer", other.connect(&addr(&mesh))).await;
        let error = error.expect_err("one of the two speaks no TLS");
        assert!(error.is_handshake(), "{error}");
        let error = error.report().to_string();
        assert!(error.contains(&dials), "{who}: {error}");
        let told = event("an error", &mut events, |event| match event {
            Event::Error { error, .. } => Some(error.report().to_string()),
            _ => None,
        });
        let told = told.await;
        assert!(told.contains(&is_called), "{who}: {told}");
        assert!(mesh.peers().is_empty() && other.peers().is_empty());
    }
}
