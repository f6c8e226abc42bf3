use super::*;

#[test]
fn quotes_of_a_peer_are_one_short_line() {
    let said = format!("\x1b[2J\nINFO forged \u{202e}{}", "x".repeat(1 << 20));
    let failed = Error::call(format!("no command {said}"));
    let panicked = Error::panicked(&format!("no command {said}"));
    let stack = crate::DisconnectReason::Stack(format!("no command {said}"));
    for text in [failed.to_string(), panicked.to_string(), stack.to_string()] {
        assert!(
            text.contains("no command \\u{1b}[2J\\nINFO forged \\u{202e}xxx"),
            "{text}"
        );
        assert!(text.len() < CAUSE_MAX + 64, "{}", text.len());
    }
    let debug = format!("{panicked:?}");
    assert!(debug.len() < CAUSE_MAX + 128, "kept: {}", debug.len());
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
    let told = Error::call(Around(offence().into())).to_string();
    assert!(
        told.ends_with("around: a frame could not be handled: no message"),
        "{told}"
    );
}

#[test]
fn causes_are_displayed_in_order() {
    let cause = std::io::Error::other(Error::full());
    let error = Error::dial("host:1", cause);
    assert!(
        error
            .to_string()
            .starts_with("cannot connect to host:1: the peer's outbox is full")
    );
}
