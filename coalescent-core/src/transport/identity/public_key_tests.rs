use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn text_form_round_trips(bytes: [u8; 32]) {
        prop_assume!(PublicKey::from_bytes(bytes).is_ok());
        let key = PublicKey(bytes);
        let text = key.to_string();
        prop_assert_eq!(text.len(), 64);
        prop_assert_eq!(text.parse(), Ok(key));
        prop_assert_eq!(format!("{:?}", key), format!("PublicKey({text})"));
    }

    #[test]
    fn any_text_that_parses_is_the_text_form(text in "[0-9a-fA-F]{62,66}|\\PC{0,80}") {
        if let Ok(key) = text.parse::<PublicKey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn order_of_keys_is_order_of_their_text(a: [u8; 32], b: [u8; 32]) {
        let (a, b) = (PublicKey(a), PublicKey(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn random_bytes_are_no_spki(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        prop_assert_eq!(PublicKey::from_spki(&bytes), None);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let upper = "AB".repeat(32).parse::<PublicKey>().unwrap_err();
    assert!(upper.to_string().contains("lower-case"));
    let short = "ab".repeat(31).parse::<PublicKey>().unwrap_err();
    assert!(short.to_string().contains("64"));
    assert!("é".repeat(32).parse::<PublicKey>().is_err());
    assert!("".parse::<PublicKey>().is_err());
    assert!("+a".repeat(32).parse::<PublicKey>().is_err());
}

#[test]
fn points_of_small_order_are_rejected_with_either_sign() {
    for mut point in SMALL_ORDER {
        assert!(PublicKey::from_bytes(point).is_err());
        point[31] |= 0x80;
        assert!(PublicKey::from_bytes(point).is_err());
        let spki = [&SPKI_PREFIX[..], &point].concat();
        assert_eq!(PublicKey::from_spki(&spki), None);
    }
}

#[test]
fn spki_with_extra_bytes_is_rejected() {
    let exact = [&SPKI_PREFIX[..], &[7; 32]].concat();
    assert_eq!(PublicKey::from_spki(&exact), Some(PublicKey([7; 32])));
    assert_eq!(PublicKey::from_spki(&exact[..43]), None);
    assert_eq!(PublicKey::from_spki(&[&exact[..], &[0]].concat()), None);
}
