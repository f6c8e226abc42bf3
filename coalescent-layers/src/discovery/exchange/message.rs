//! The bytes of the channel `peers/1`.

use std::fmt;

use bytes::Bytes;
use coalescent_core::Address;
use rmp::{decode, encode};

use crate::discovery::place::TCP;

/// The name of the channel, with its version.
pub const CHANNEL: &str = "peers/1";

/// The largest number of addresses that one message asks for or tells.
pub const MAX_ADDRESSES: usize = 64;

/// The maximum length of an address as text, in bytes.
pub const MAX_ADDRESS: usize = 300;

/// The maximum length of a message, in bytes: that of [`MAX_ADDRESSES`] addresses of
/// [`MAX_ADDRESS`] bytes, however their lengths are written.
pub const MAX_MESSAGE: usize = 20 * 1024;

const ASK: &str = "ask";
const TELL: &str = "tell";

/// A message of the channel `peers/1`, in MessagePack.
///
/// ```text
///  92              array of 2
///  a3 61 73 6b     "ask"
///  10              for how many addresses, 0 to 64
///
///  92              array of 2
///  a4 74 65 6c 6c  "tell"
///  91              array of at most 64 addresses
///  ae ...          "192.0.2.7:1337": [ID@]HOST:PORT, at most 300 bytes
/// ```
///
/// What is longer than it may be, has bytes behind it, or holds a text that is no [`Address`] is an
/// error as a whole. No count that a peer claims is used to reserve memory.
///
/// ```
/// use coalescent::discovery::exchange::ExchangeMessage;
///
/// let ask = ExchangeMessage::Ask(16);
/// assert_eq!(ask.encode(), &b"\x92\xa3ask\x10"[..]);
/// assert_eq!(ExchangeMessage::decode(b"\x92\xa3ask\x10")?, ask);
/// # Ok::<(), coalescent::discovery::exchange::ExchangeMessageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeMessage {
    /// Asks for at most this many addresses, up to [`MAX_ADDRESSES`].
    Ask(usize),
    /// Answers one ask, with at most as many addresses as were asked for.
    Tell(Vec<Address>),
}

impl ExchangeMessage {
    /// Returns the bytes of the message. Of a tell, only the first [`MAX_ADDRESSES`] addresses of
    /// `tcp` of at most [`MAX_ADDRESS`] bytes are written; of a larger ask, [`MAX_ADDRESSES`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        // Writing to a vector cannot fail.
        let _ = self.write(&mut out);
        out.into()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), encode::ValueWriteError> {
        encode::write_array_len(out, 2)?;
        match self {
            Self::Ask(count) => {
                encode::write_str(out, ASK)?;
                encode::write_uint(out, (*count).min(MAX_ADDRESSES) as u64)?;
            }
            Self::Tell(addresses) => {
                encode::write_str(out, TELL)?;
                let told = addresses.iter().filter(|address| address.scheme() == TCP);
                let texts = told.map(Address::to_string);
                let texts = texts.filter(|text| text.len() <= MAX_ADDRESS);
                let texts: Vec<String> = texts.take(MAX_ADDRESSES).collect();
                encode::write_array_len(out, texts.len() as u32)?;
                for text in texts {
                    encode::write_str(out, &text)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a message that spans all of `payload`.
    ///
    /// # Errors
    ///
    /// If the bytes are not a message, or exceed one of its limits.
    pub fn decode(payload: &[u8]) -> Result<Self, ExchangeMessageError> {
        if payload.len() > MAX_MESSAGE {
            return Err(ExchangeMessageError("it is too long"));
        }
        let mut rest = payload;
        if !matches!(decode::read_array_len(&mut rest), Ok(2)) {
            return Err(ExchangeMessageError("it is no array of 2"));
        }
        let verb = text(&mut rest).ok_or(ExchangeMessageError("its verb is no string"))?;
        let message = match verb {
            ASK => Self::Ask(asked(&mut rest)?),
            TELL => Self::Tell(told(&mut rest)?),
            _ => return Err(ExchangeMessageError("its verb is neither ask nor tell")),
        };
        if !rest.is_empty() {
            return Err(ExchangeMessageError("there are bytes behind it"));
        }
        Ok(message)
    }
}

fn asked(rest: &mut &[u8]) -> Result<usize, ExchangeMessageError> {
    let count = decode::read_int::<u64, _>(rest)
        .map_err(|_| ExchangeMessageError("it does not say how many addresses it asks for"))?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_ADDRESSES)
        .ok_or(ExchangeMessageError("it asks for more than 64 addresses"))
}

fn told(rest: &mut &[u8]) -> Result<Vec<Address>, ExchangeMessageError> {
    let count = decode::read_array_len(rest)
        .map_err(|_| ExchangeMessageError("what it tells is no array"))?;
    if count as usize > MAX_ADDRESSES {
        return Err(ExchangeMessageError("it tells more than 64 addresses"));
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let text = text(rest).ok_or(ExchangeMessageError("an address is no string"))?;
        if text.len() > MAX_ADDRESS {
            return Err(ExchangeMessageError("an address is over 300 bytes"));
        }
        let no_address = ExchangeMessageError(NO_ADDRESS);
        let address: Address = text.parse().map_err(|_| no_address.clone())?;
        // A spelling that other nodes may not know, or another scheme.
        if address.scheme() != TCP || text.contains("//") {
            return Err(no_address);
        }
        addresses.push(address);
    }
    Ok(addresses)
}

const NO_ADDRESS: &str = "it tells what is no address";

/// Splits a string off the front of `rest`.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = decode::read_str_len(rest).ok()?;
    let (text, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = behind;
    std::str::from_utf8(text).ok()
}

/// The error of decoding bytes that are no [`ExchangeMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeMessageError(&'static str);

impl fmt::Display for ExchangeMessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message of the channel {CHANNEL}: {}", self.0)
    }
}

impl std::error::Error for ExchangeMessageError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<ExchangeMessage, String> {
        ExchangeMessage::decode(bytes).map_err(|error| error.to_string())
    }

    fn tell(texts: &[&str]) -> ExchangeMessage {
        ExchangeMessage::Tell(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn messages_have_their_documented_bytes() {
        let ask = ExchangeMessage::Ask(16);
        assert_eq!(&ask.encode()[..], b"\x92\xa3ask\x10");
        assert_eq!(decode(b"\x92\xa3ask\x10"), Ok(ask));
        let some = tell(&["192.0.2.7:1337", "[::1]:1"]);
        let bytes = b"\x92\xa4tell\x92\xae192.0.2.7:1337\xa7[::1]:1";
        assert_eq!(&some.encode()[..], bytes);
        assert_eq!(decode(bytes), Ok(some));
        assert_eq!(&tell(&[]).encode()[..], b"\x92\xa4tell\x90");
        assert_eq!(decode(b"\x92\xa4tell\x90"), Ok(tell(&[])));
    }

    #[test]
    fn lengths_may_be_written_in_any_way() {
        let wide = b"\xdd\0\0\0\x02\xdb\0\0\0\x03ask\xcf\0\0\0\0\0\0\0\x40";
        assert_eq!(decode(wide), Ok(ExchangeMessage::Ask(64)));
        let wide = b"\xdc\0\x02\xd9\x04tell\xdc\0\x01\xda\0\x03a:1";
        assert_eq!(decode(wide), Ok(tell(&["a:1"])));
    }

    #[test]
    fn the_longest_messages_fit() {
        // 64 digits and @, four labels, and the port.
        let label = "a".repeat(57);
        let host = [&label[..], &label, &label, &label[..54]].join(".");
        let longest = format!("{}@{host}:65535", "9".repeat(64));
        assert!(longest.len() <= MAX_ADDRESS, "{}", longest.len());
        let most = tell(&[&longest[..]; MAX_ADDRESSES]);
        assert_eq!(decode(&most.encode()), Ok(most.clone()));
        let ExchangeMessage::Tell(mut more) = most.clone() else {
            unreachable!()
        };
        more.push("one-more:1".parse().unwrap());
        assert_eq!(ExchangeMessage::Tell(more).encode(), most.encode());
        assert_eq!(
            ExchangeMessage::Ask(1000).encode(),
            ExchangeMessage::Ask(64).encode()
        );
        let widest = 5 + 5 + TELL.len() + 5 + MAX_ADDRESSES * (5 + MAX_ADDRESS);
        assert!(widest <= MAX_MESSAGE);
    }

    #[test]
    fn an_address_that_is_too_long_is_left_out() {
        let label = "a".repeat(60);
        let host = [&label[..]; 4].join(".");
        let long = format!("{}@{host}:65535", "9".repeat(64));
        assert!(long.len() > MAX_ADDRESS);
        assert_eq!(tell(&[&long, "a:1"]).encode(), tell(&["a:1"]).encode());
    }

    #[test]
    fn only_addresses_of_tcp_are_told_and_taken() {
        let key = format!("iroh:{}", "9".repeat(64));
        let others = ["ws://a:1/", "wss://a:1/", "unix:/run/a", "own://a:1", &key];
        for other in others {
            assert_eq!(tell(&[other, "a:1"]).encode(), tell(&["a:1"]).encode());
            let mut bytes = b"\x92\xa4tell\x91".to_vec();
            encode::write_str(&mut bytes, other).unwrap();
            assert!(decode(&bytes).unwrap_err().contains(NO_ADDRESS), "{other}");
        }
        // Of tcp, but written as nobody does.
        let bytes = b"\x92\xa4tell\x91\xa9tcp://a:1";
        assert!(decode(bytes).unwrap_err().contains(NO_ADDRESS));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let mut long = b"\x92\xa4tell\x91\xda\x01\x2d".to_vec();
        long.extend([b'a'; 301]);
        let mut many = b"\x92\xa4tell\xdc\0\x41".to_vec();
        many.extend(b"\xa3a:1".repeat(65));
        for (bytes, why) in [
            (&b""[..], "no array"),
            (b"\x91\xa3ask", "no array of 2"),
            (b"\x93\xa3ask\x01\x01", "no array of 2"),
            (b"\x82\xa3ask\x01", "no array"),
            (b"\x92\x01\x01", "verb is no string"),
            (b"\x92\xc4\x03ask\x01", "verb is no string"),
            (b"\x92\xa4askk\x01", "neither"),
            (b"\x92\xa3ask", "how many"),
            (b"\x92\xa3ask\xff", "how many"),
            (b"\x92\xa3ask\xa11", "how many"),
            (b"\x92\xa3ask\xcb\x3f\xf0\0\0\0\0\0\0", "how many"),
            (b"\x92\xa3ask\x41", "more than 64"),
            (
                b"\x92\xa3ask\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
                "more than 64",
            ),
            (b"\x92\xa3ask\x01\x01", "behind"),
            (b"\x92\xa4tell\xa3a:1", "no array"),
            (b"\x92\xa4tell\xdd\xff\xff\xff\xff", "more than 64"),
            (b"\x92\xa4tell\xdd\0\0\0\x40", "no string"),
            (b"\x92\xa4tell\x91\xa3a:", "no string"),
            (b"\x92\xa4tell\x91\xdb\xff\xff\xff\xffa:1", "no string"),
            (b"\x92\xa4tell\x91\xa3\xff:1", "no string"),
            (b"\x92\xa4tell\x91\xa3a:0", "no address"),
            (b"\x92\xa4tell\x92\xa3a:1\xa1a", "no address"),
            (b"\x92\xa4tell\x91\xa3a:1\xc0", "behind"),
            (&long, "over 300"),
            (&many, "more than 64"),
            (&[0x91; MAX_MESSAGE], "no array of 2"),
            (&[0x91; MAX_MESSAGE + 1], "too long"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains(why), "{}: {error}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_is_encoded_to_the_same(bytes: Vec<u8>) {
            for prefix in [&b""[..], b"\x92\xa3ask", b"\x92\xa4tell", b"\x92\xa4tell\x92\xa3a:1"] {
                let bytes = [prefix, &bytes].concat();
                if let Ok(message) = ExchangeMessage::decode(&bytes) {
                    let again = message.encode();
                    prop_assert_eq!(ExchangeMessage::decode(&again), Ok(message));
                }
            }
        }

        #[test]
        fn what_is_cut_or_has_more_behind_it_is_an_error(hosts in prop::collection::vec("[a-z]{1,40}", 0..20), at: prop::sample::Index) {
            let texts: Vec<_> = hosts.iter().map(|host| format!("{host}:1")).collect();
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let mut bytes = tell(&texts).encode().to_vec();
            prop_assert_eq!(ExchangeMessage::decode(&bytes), Ok(tell(&texts)));
            prop_assert!(ExchangeMessage::decode(&bytes[..at.index(bytes.len())]).is_err());
            bytes.push(0xc0);
            prop_assert!(ExchangeMessage::decode(&bytes).is_err());
        }
    }
}
