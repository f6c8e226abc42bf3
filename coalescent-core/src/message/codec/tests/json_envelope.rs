//! Tests of the JSON envelope and of its keys.

use super::*;

#[test]
fn json_is_decoded_like_json_parse() {
    let message = json(
        " {\"x\": [1], \"body\" : 1, \"t\\u0079pe\" : 5,\r\n\"type\":\"\\u0070\", \"body\": [ 2 ] } ",
    );
    let message = message.unwrap();
    assert_eq!(
        (message.kind(), message.body::<Value>().unwrap()),
        ("p", json!([2]))
    );
    assert_eq!(json(r#"{"type":"__proto__"}"#).unwrap().body_bytes(), b"{}");
    json(r#"{"type":"x"}"#).unwrap().body::<()>().unwrap();
    assert!(
        json(r#"{"type":"x","headers":null}"#)
            .unwrap()
            .headers()
            .next()
            .is_none()
    );
    let twice = json(r#"{"type":"x","headers":{"a":1,"a":2}}"#).unwrap();
    assert_eq!(twice.header::<u8>("a").unwrap().unwrap(), 2);
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        "5",
        r#"{"body":1}"#,
        r#"{"type":null}"#,
        r#"{"type":1}"#,
        r#"{"type":"x"} x"#,
        r#"{"type":"x","body":}"#,
        r#"{"type":"x","body":[1,]}"#,
        r#"{"type":"x","headers":[]}"#,
        r#"{"type":"\ud800"}"#,
        r#"{"type":"x","headers":{"\ud800":1}}"#,
    ] {
        assert!(json(bad).unwrap_err().is_envelope(), "{bad}");
    }
    let not_utf8 = b"{\"type\":\"x\",\"other\":\"\xff\"}";
    assert!(decode(&Codec::json(), not_utf8).unwrap_err().is_envelope());
}

#[test]
fn json_keys_can_be_renamed() {
    let codec = Codec::json().type_param("event").body_param("data");
    let payload = codec.encode_body("x", &1).unwrap();
    assert_eq!(payload, r#"{"event":"x","data":1}"#);
    let message = decode(&codec, r#"{"type":"a","body":2,"event":"b","data":3}"#).unwrap();
    assert_eq!((message.kind(), message.body::<u8>().unwrap()), ("b", 3));
}

#[test]
#[should_panic(expected = "choose other names")]
fn json_keys_must_differ() {
    let _ = Codec::json().type_param("body");
}

#[test]
#[should_panic(expected = "choose other names")]
fn json_keys_must_not_be_headers() {
    let _ = Codec::json().body_param("headers");
}

#[test]
fn json_bodies_are_written_on_one_line() {
    let codec = Codec::json();
    let message = json("{\"type\":\"x\",\"body\":{\r\n \"a b\" : \"c \\\" d\\n\" }\n}").unwrap();
    let expected = r#"{"type":"x","body":{"a b":"c \" d\n"}}"#;
    assert_eq!(codec.encode(&message).unwrap(), expected);
    assert_eq!(
        message.body_to_json_string().unwrap(),
        r#"{"a b":"c \" d\n"}"#
    );
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str("[1,\n2]").unwrap();
    assert_eq!(
        codec.encode_body("x", &raw).unwrap(),
        r#"{"type":"x","body":[1,2]}"#
    );
}

#[test]
fn values_that_json_lacks_can_be_displayed() {
    let text = |bytes: &'static [u8]| {
        Message::encoded("x", Format::MessagePack, Bytes::from_static(bytes))
            .body_to_json_string()
            .unwrap()
    };
    assert_eq!(text(b"\xcb\x7f\xf8\0\0\0\0\0\0"), "null");
    assert_eq!(text(b"\xca\x7f\x80\0\0"), "null");
    assert_eq!(text(b"\xca\x3d\xcc\xcc\xcd"), "0.1");
    assert_eq!(text(b"\xc4\x02\x01\xff"), "[1,255]");
    assert_eq!(text(b"\xd5\xff\x01\x02"), "[-1,[1,2]]");
    assert_eq!(text(b"\xa3a\xff\n"), "\"a\u{fffd}\\n\"");
    assert_eq!(
        text(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        "18446744073709551615"
    );
    assert_eq!(text(b"\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
    assert_eq!(
        text(b"\x86\x01\x01\xff\x02\xc0\x03\xc3\x04\x91\x05\x06\xc4\x01a\x07"),
        r#"{"1":1,"-1":2,"null":3,"true":4,"9105":6,"c40161":7}"#
    );
    assert_eq!(
        text(b"\x93\x90\x80\x92\x81\xa1a\x90\x01"),
        r#"[[],{},[{"a":[]},1]]"#
    );
}
