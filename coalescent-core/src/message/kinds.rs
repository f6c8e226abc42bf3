//! Rust types that name the message type whose body they are.

use serde::de::DeserializeOwned;

/// Names the message type whose body a Rust type is, so that neither side has to spell the name.
///
/// [`message_type!`](crate::message_type) implements it.
///
/// ```
/// use coalescent::{Message, MessageType};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Ping {
///     time: u64,
/// }
///
/// impl MessageType for Ping {
///     const TYPE: &'static str = "ping";
/// }
///
/// assert_eq!(Message::typed(&Ping { time: 1 }).kind(), "ping");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say of which message type it is the body",
    label = "no `MessageType`",
    note = "name the type with `message_type! {{ {Self} => \"name\" }}`"
)]
pub trait MessageType {
    /// The type of the messages that have this body.
    const TYPE: &'static str;
}

/// A body that is a question, and says what the body of the answer is.
///
/// [`message_type!`](crate::message_type) implements it. A peer is asked with `PeerExt::ask` of
/// `coalescent-layers`. The type of the message that comes as the answer does not matter, only its
/// body.
///
/// ```
/// use coalescent::{Ask, MessageType};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Add(u64, u64);
///
/// impl MessageType for Add {
///     const TYPE: &'static str = "add";
/// }
///
/// impl Ask for Add {
///     type Answer = u64;
/// }
/// # fn answer<Q: Ask<Answer = u64>>(_: Q, answer: Q::Answer) -> u64 { answer }
/// # assert_eq!(answer(Add(1, 2), 3), 3);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no question: it does not say what the answer is",
    label = "no `Ask`",
    note = "name the answer with `message_type! {{ {Self} => \"name\" -> Answer }}`"
)]
pub trait Ask: MessageType {
    /// The body of the answer.
    type Answer: DeserializeOwned;
}

/// Implements [`MessageType`](crate::MessageType) for types, and [`Ask`](crate::Ask) for those with
/// an answer.
///
/// Each line names a type and its message type, and after `->` the body of the answer if messages
/// of this type are questions. The lines are separated by commas. A type with parameters of its own
/// needs an `impl` by hand; a lifetime is written as `'_`.
///
/// ```
/// use coalescent::{MessageType, message_type};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, Serialize)]
/// struct Set {
///     key: String,
///     value: u64,
/// }
///
/// #[derive(Serialize)]
/// struct Get<'a> {
///     key: &'a str,
/// }
///
/// message_type! {
///     Set => "set",
///     Get<'_> => "get" -> Option<u64>,
/// }
///
/// assert_eq!((Set::TYPE, Get::TYPE), ("set", "get"));
/// ```
#[macro_export]
macro_rules! message_type {
    ($($body:ty => $kind:literal $(-> $answer:ty)?),+ $(,)?) => {
        $(
            impl $crate::MessageType for $body {
                const TYPE: &'static str = $kind;
            }

            $(
                impl $crate::Ask for $body {
                    type Answer = $answer;
                }
            )?
        )+
    };
}
