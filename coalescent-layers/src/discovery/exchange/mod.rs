//! Peer exchange: peers tell each other the addresses that they know, over the channel `peers/1`.

mod asking;
mod message;
mod place;
mod taking;
mod telling;

pub use asking::ASK_EVERY;
pub use message::{
    CHANNEL, ExchangeMessage, ExchangeMessageError, MAX_ADDRESS, MAX_ADDRESSES, MAX_MESSAGE,
};
pub use taking::{MAX_SOURCES, TAKE_AT_ONCE, TAKE_EVERY};
pub use telling::{SAME_FOR, SAME_FROM};
