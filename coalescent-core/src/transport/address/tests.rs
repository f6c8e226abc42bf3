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
    assert_eq!(address.id(), Some(&[0xab; 32]));
    assert_eq!(address.to_string(), text.to_lowercase());
    assert_eq!(address.ip(), Some(Ipv6Addr::LOCALHOST.into()));
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

proptest! {
    #[test]
    fn any_socket_address_round_trips(ip: IpAddr, port in 1..=u16::MAX, id: Option<[u8; 32]>) {
        let address = Address::try_from(SocketAddr::new(ip, port)).unwrap().with_id(id);
        prop_assert_eq!(address.ip(), Some(ip));
        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }

    #[test]
    fn any_text_is_rejected_or_round_trips(text in r"([0-9a-f]{0,64}@)?\[?[a-z0-9:.%\PC]{0,12}\]?:?[0-9]{0,6}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }
}
