use super::*;
use crate::text::CAUSE_MAX;

#[test]
fn quotes_of_a_peer_are_one_short_line() {
    let said = format!("\x1b[2J\nINFO forged \u{202e}{}", "x".repeat(1 << 20));
    let failed = Error::call(format!("no command {said}"));
    let panicked = Error::panicked(&format!("no command {said}"));
    let stack = crate::DisconnectReason::Stack(format!("no command {said}"));
    let reports = [failed.report(), panicked.report()].map(|report| report.to_string());
    for text in reports.into_iter().chain([stack.to_string()]) {
        assert!(
            text.contains("no command \\u{1b}[2J\\nINFO forged \\u{202e}xxx"),
            "{text}"
        );
        assert!(text.len() < CAUSE_MAX + 64, "{}", text.len());
    }
    let debug = format!("{panicked:#?}");
    assert!(debug.len() < CAUSE_MAX + 256, "kept: {}", debug.len());
}

/// An error with which a layer wraps another one.
#[derive(Debug)]
struct Around(BoxError);

impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("around")
    }
}

impl std::error::Error for Around {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn an_offence_is_found_inside_errors_of_layers() {
    let offence = || Error::offence("no message");
    assert!(Error::call(offence()).is_offence());
    assert!(Error::call(Around(offence().into())).is_offence());
    assert!(Error::call(Around(Around(offence().into()).into())).is_offence());
    assert!(Error::call(std::io::Error::other(offence())).is_offence());
    let long = Error::offence(Around("x".repeat(1 << 20).into()));
    assert!(Error::call(Around(long.into())).is_offence());

    for other in [
        Error::call("not found"),
        Error::call(Around(Error::call("not found").into())),
        Error::panicked(&"panic"),
        Error::encode("too large"),
        Error::no_courier(),
    ] {
        assert!(!other.is_offence(), "{other}");
        assert!(!Error::call(other).is_offence());
    }
    let told = Error::call(Around(offence().into())).report().to_string();
    assert_eq!(
        told,
        "a frame could not be handled: around: a frame could not be handled: no message"
    );
}

#[test]
fn each_kind_with_a_cause_displays_its_own_level() {
    let cause = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    for error in [
        Error::listen("here:1", cause()),
        Error::dial("here:1", cause()),
        Error::dial("here:1", std::io::Error::other(Around(cause().into()))),
        Error::handshake(cause()).at("here:1"),
        Error::unsaid(cause()),
        Error::unanswered(cause()),
        Error::own_ban(std::time::Duration::from_secs(5)),
        Error::call(Around(cause().into())),
        Error::offence(Around(cause().into())),
        Error::encode(cause()),
        Error::undecodable(cause()),
        Error::unencodable(cause()),
    ] {
        check_levels(&error);
        let (report, debug) = (error.report().to_string(), format!("{error:?}"));
        assert_eq!(debug, report, "what `main` prints");
        assert!(format!("{error:#?}").contains("kind: "), "{error:#?}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

/// An error of another crate that displays its cause too.
#[derive(Debug)]
struct Talkative(BoxError);

impl fmt::Display for Talkative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "talkative: {}", self.0)
    }
}

impl std::error::Error for Talkative {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn a_cause_that_is_displayed_by_the_level_above_is_not_repeated() {
    let error = Error::dial("here:1", Talkative(Around("broken".into()).into()));
    assert_eq!(
        error.report().to_string(),
        "cannot connect to here:1: talkative: around: broken"
    );
}

#[test]
fn a_peer_that_asked_is_told_the_handlers_error() {
    let secret = || Around("the password of the database".into());
    let table: [(Error, &str); 8] = [
        // The text of a foreign error, without its causes.
        (Error::call("no such thing"), "no such thing"),
        (Error::call(secret()), "around"),
        (Error::call(std::io::Error::other(secret())), "around"),
        // An error of the mesh that a handler passes on, with its causes.
        (
            Error::call(Error::encode("too large")),
            "the payload cannot be sent: too large",
        ),
        (
            Error::call(std::io::Error::other(Error::encode("too large"))),
            "the payload cannot be sent: too large",
        ),
        (
            Error::offence(Error::closed()),
            "the peer is no longer connected",
        ),
        (
            Error::no_courier(),
            "no courier is registered: add `.with(Courier::new())` to the app before sending messages",
        ),
        (
            Error::call(Around(Refusal::new("sold out").into())),
            "sold out",
        ),
    ];
    for (error, expected) in table {
        assert_eq!(error.reason(), expected);
    }
}
