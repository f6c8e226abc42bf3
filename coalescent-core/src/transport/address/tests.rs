use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn problem(text: &str) -> AddressProblem {
    text.parse::<Address>().unwrap_err().problem
}

#[test]
fn addresses_are_normalised() {
    for (text, spelling) in [
        ("127.0.0.1:1337", "127.0.0.1:1337"),
        ("Seed.Example.:7", "seed.example.:7"),
        ("a_b-c:65535", "a_b-c:65535"),
        ("[0:0::1]:1", "[::1]:1"),
        ("[FE80::1%eth0]:1", "[fe80::1%eth0]:1"),
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), spelling);
    }
    let text = format!("{}@[::1]:9", "aB".repeat(32));
    let address: Address = text.parse().unwrap();
    assert_eq!(address.id(), Some(PublicKey::repeated(0xab)));
    assert_eq!(address.to_string(), text.to_lowercase());
    assert_eq!(address.ip(), Some(Ipv6Addr::LOCALHOST.into()));
}

#[test]
fn each_scheme_has_one_spelling() {
    let id = "ab".repeat(32);
    for (text, spelling) in [
        ("tcp://Example.com:7", "example.com:7".to_owned()),
        (&format!("TCP://{id}@a:7"), format!("{id}@a:7")),
        ("ws://a", "ws://a:80/".to_owned()),
        ("WSS://A/Mesh?x=@1", "wss://a:443/Mesh?x=@1".to_owned()),
        (
            &format!("ws://{id}@[0::1]:9/p"),
            format!("ws://{id}@[::1]:9/p"),
        ),
        ("unix:/run/a b.sock", "unix:/run/a b.sock".to_owned()),
        ("unix:///run/a", "unix:/run/a".to_owned()),
        ("unix:./a:80", "unix:./a:80".to_owned()),
        (&format!("iroh:{}", id.to_uppercase()), format!("iroh:{id}")),
        (
            &format!("iroh://{id}?relay=https://r:1/"),
            format!("iroh:{id}?relay=https://r:1/"),
        ),
        (&format!("own+1:{id}"), format!("own+1:{id}")),
        ("own://host", "own://host".to_owned()),
        ("own://host:1/a b", "own://host:1/a b".to_owned()),
        ("own:/a@b", "own:/a@b".to_owned()),
        // As they have always been: a host and a port.
        ("unix:80", "unix:80".to_owned()),
        ("iroh:7", "iroh:7".to_owned()),
    ] {
        let address: Address = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(address.to_string(), spelling);
        assert_eq!(spelling.parse(), Ok(address));
    }
    let web: Address = format!("ws://{id}@a:9/p").parse().unwrap();
    assert_eq!(
        (web.scheme(), web.host(), web.port(), web.path()),
        ("ws", "a", 9, "/p")
    );
    assert_eq!(web.id(), Some(PublicKey::repeated(0xab)));
    assert_eq!(web.clone().with_id(None).to_string(), "ws://a:9/p");
    let key: Address = format!("iroh:{id}?x").parse().unwrap();
    assert_eq!(
        (key.scheme(), key.host(), key.port(), key.path()),
        ("iroh", "", 0, "?x")
    );
    assert_eq!(key.id(), Some(PublicKey::repeated(0xab)));
    assert_eq!(key.clone().with_id(None), key);
    assert_eq!((key.ip(), key.socket_addr()), (None, None));
    let tcp: Address = "127.0.0.1:7".parse().unwrap();
    assert_eq!((tcp.scheme(), tcp.path()), ("tcp", ""));
    assert_eq!(tcp.socket_addr(), Some(([127, 0, 0, 1], 7).into()));
}

#[test]
fn each_mistake_about_a_scheme_is_explained() {
    let id = "ab".repeat(32);
    for (text, expected) in [
        ("tcp://a:1/x", AddressProblem::AfterPort),
        ("tcp://a", AddressProblem::MissingPort),
        ("tcp:/a", AddressProblem::Slashes),
        ("ws:/a", AddressProblem::Slashes),
        (&format!("ws:{id}"), AddressProblem::Slashes),
        ("ws://", AddressProblem::MissingHost),
        ("ws://a:0/", AddressProblem::PortZero),
        ("ws://me@a:1/", AddressProblem::Id),
        ("ws://a?x", AddressProblem::Path),
        ("ws://a/#x", AddressProblem::Path),
        ("ws://a/ b", AddressProblem::Path),
        ("ws://a/\u{e9}", AddressProblem::Path),
        ("ws://::1/", AddressProblem::Unbracketed),
        ("unix:chat.sock", AddressProblem::UnixPath),
        ("unix://host/path", AddressProblem::UnixPath),
        ("unix:/a\nb", AddressProblem::Path),
        ("unix:////a", AddressProblem::Path),
        ("iroh:abc", AddressProblem::Key),
        ("iroh:/abc", AddressProblem::Key),
        (&format!("iroh:{id}ab"), AddressProblem::Key),
        (&format!("iroh:{id}@a:1"), AddressProblem::Key),
        (
            &format!("unix:/{}", "x".repeat(PATH_MAX)),
            AddressProblem::Path,
        ),
        // No scheme, but what was meant to be a port.
        ("example:http", AddressProblem::Port),
        ("localhost:80a", AddressProblem::Port),
        ("a.b:/x", AddressProblem::Port),
        ("abcdefghijklmnopq:/x", AddressProblem::Port),
    ] {
        assert_eq!(problem(text), expected, "{text:?}");
    }
}

#[test]
fn each_mistake_is_explained() {
    for (text, expected) in [
        ("", AddressProblem::MissingPort),
        ("example", AddressProblem::MissingPort),
        ("example:", AddressProblem::MissingPort),
        ("[::1]", AddressProblem::MissingPort),
        (":80", AddressProblem::MissingHost),
        ("a:0", AddressProblem::PortZero),
        ("a:65536", AddressProblem::Port),
        ("a:+80", AddressProblem::Port),
        ("a:80 ", AddressProblem::Port),
        (" a:80", AddressProblem::Host),
        ("a..b:80", AddressProblem::Host),
        ("bücher:80", AddressProblem::Host),
        ("256.0.0.1:80", AddressProblem::Ipv4),
        ("127.1:80", AddressProblem::Ipv4),
        ("::1:80", AddressProblem::Unbracketed),
        ("[::1:80", AddressProblem::Bracket),
        ("[::1]80", AddressProblem::AfterBracket),
        ("[1.2.3.4]:80", AddressProblem::Ipv6),
        ("[fe80::1%]:80", AddressProblem::Ipv6),
        ("me@a:80", AddressProblem::Id),
    ] {
        assert_eq!(problem(text), expected, "{text:?}");
    }
    assert_eq!(
        problem(&format!("{}@a:80", "ab".repeat(33))),
        AddressProblem::Id
    );
}

#[test]
fn quotes_in_errors_are_short_and_escaped() {
    let text = format!("\u{1b}[2J\n{}", "é".repeat(1000))
        .parse::<Address>()
        .unwrap_err();
    let text = text.to_string();
    assert!(
        text.len() < 300 && !text.contains(['\u{1b}', '\n']),
        "{text}"
    );
    assert!(
        text.ends_with("…\": missing port; write HOST:PORT"),
        "{text}"
    );
}

#[test]
fn an_identity_that_everybody_has_is_none() {
    let nobody = "01".to_owned() + &"00".repeat(31);
    for text in [
        format!("{nobody}@a:7"),
        format!("ws://{nobody}@a"),
        format!("iroh:{nobody}"),
        format!("own:{nobody}"),
    ] {
        assert_eq!(problem(&text), AddressProblem::NoOwner, "{text}");
        assert!(text.parse::<Address>().unwrap_err().is_id());
    }
}

proptest! {
    #[test]
    fn any_socket_address_round_trips(ip: IpAddr, port in 1..=u16::MAX, id: Option<[u8; 32]>) {
        let id = id.and_then(|id| PublicKey::from_bytes(id).ok());
        let address = Address::try_from(SocketAddr::new(ip, port)).unwrap().with_id(id);
        prop_assert_eq!(address.ip(), Some(ip));
        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }

    #[test]
    fn any_text_with_a_scheme_is_rejected_or_round_trips(
        text in r"(tcp|ws|WSS|unix|iroh|own-1)(:|:/|://|:///)([0-9a-fA-F]{64}[@?/]?)?(\[::1\]|[a-zA-Z.]{0,4})(:[0-9]{0,6})?[/?.#@:\PC]{0,8}"
    ) {
        if let Ok(address) = text.parse::<Address>() {
            let spelling = address.to_string();
            prop_assert_eq!(spelling.parse::<Address>(), Ok(address), "{}", spelling);
        }
    }

    #[test]
    fn any_text_is_rejected_or_round_trips(text in r"([0-9a-f]{0,64}@)?\[?[a-z0-9:.%\PC]{0,12}\]?:?[0-9]{0,6}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }
}
