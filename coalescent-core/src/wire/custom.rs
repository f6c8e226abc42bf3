use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::{Block, BoxError, Head, Kind, WireError, clamp_frame, plain_payload};

/// The number of bytes beyond the frame limit that a custom codec may leave unread for its own
/// framing, before an incomplete frame is rejected as too large.
pub const CUSTOM_FRAMING_ALLOWANCE: usize = 64 * 1024;

/// A payload codec whose types are erased.
trait PayloadCodec: Send {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, BoxError>;
    fn decode_eof(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, BoxError>;
    fn encode(&mut self, payload: Bytes, dst: &mut BytesMut) -> Result<(), BoxError>;
}

impl<C> PayloadCodec for C
where
    C: Decoder<Item: Into<Bytes>, Error: Into<BoxError>>
        + Encoder<Bytes, Error: Into<BoxError>>
        + Send,
{
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, BoxError> {
        Decoder::decode(self, buf)
            .map(|item| item.map(Into::into))
            .map_err(Into::into)
    }

    fn decode_eof(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, BoxError> {
        Decoder::decode_eof(self, buf)
            .map(|item| item.map(Into::into))
            .map_err(Into::into)
    }

    fn encode(&mut self, payload: Bytes, dst: &mut BytesMut) -> Result<(), BoxError> {
        Encoder::encode(self, payload, dst).map_err(Into::into)
    }
}

type Make = dyn Fn() -> Box<dyn PayloadCodec> + Send + Sync;

/// The description of a custom wire.
#[derive(Clone)]
pub(super) struct Custom {
    name: Arc<str>,
    make: Arc<Make>,
}

impl Custom {
    pub(super) fn new<C>(name: Arc<str>, make: impl Fn() -> C + Send + Sync + 'static) -> Self
    where
        C: Decoder<Item: Into<Bytes>, Error: Into<BoxError>>
            + Encoder<Bytes, Error: Into<BoxError>>
            + Send
            + 'static,
    {
        Self {
            name,
            make: Arc::new(move || Box::new(make())),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.make, &other.make)
    }

    pub(super) fn codec(&self, max_frame: usize) -> CustomCodec {
        CustomCodec {
            name: self.name.clone(),
            codec: (self.make)(),
            max_frame: clamp_frame(max_frame),
        }
    }
}

/// The codec that one connection uses on a custom wire.
pub(super) struct CustomCodec {
    name: Arc<str>,
    codec: Box<dyn PayloadCodec>,
    max_frame: usize,
}

impl CustomCodec {
    pub(super) fn next_block(
        &mut self,
        buf: &mut BytesMut,
        block: &mut Block,
    ) -> Result<bool, WireError> {
        block.clear();
        let payload = self.codec.decode(buf).map_err(WireError::custom)?;
        if payload.is_none() && buf.len() > self.max_frame.saturating_add(CUSTOM_FRAMING_ALLOWANCE)
        {
            return Err(WireError::too_large(self.max_frame));
        }
        self.fill(payload, block)
    }

    pub(super) fn finish(
        &mut self,
        buf: &mut BytesMut,
        block: &mut Block,
    ) -> Result<bool, WireError> {
        block.clear();
        let payload = self.codec.decode_eof(buf).map_err(WireError::custom)?;
        self.fill(payload, block)
    }

    fn fill(&self, payload: Option<Bytes>, block: &mut Block) -> Result<bool, WireError> {
        let Some(payload) = payload else {
            return Ok(false);
        };
        if payload.len() > self.max_frame {
            return Err(WireError::too_large(self.max_frame));
        }
        block
            .heads
            .push((0, Head::plain(payload.len(), 0, Kind::Plain, false)));
        block.bytes = payload;
        Ok(true)
    }

    pub(super) fn encode(
        &mut self,
        kind: Kind,
        payload: Bytes,
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        if !plain_payload(kind, "application's own")? {
            return Ok(());
        }
        if payload.len() > self.max_frame {
            return Err(WireError::too_large(self.max_frame));
        }
        let before = dst.len();
        self.codec.encode(payload, dst).map_err(|error| {
            // Remove whatever the codec wrote before it failed.
            dst.truncate(before);
            WireError::custom(error)
        })
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").field(&self.name).finish()
    }
}

impl fmt::Debug for CustomCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomCodec")
            .field("name", &self.name)
            .field("max_frame", &self.max_frame)
            .finish_non_exhaustive()
    }
}
