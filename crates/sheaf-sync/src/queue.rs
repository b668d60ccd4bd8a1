//! Frames on their way to the transport, counted and bounded.
//!
//! Invariant: the queue never holds more than [`limits::OUT_FRAMES_MAX`] frames or about
//! [`limits::OUT_BYTES_MAX`] bytes; a session that would pass either ends the connection.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits;

/// A bounded queue of encoded frames.
#[derive(Debug, Default)]
pub(crate) struct FrameQueue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl FrameQueue {
    /// Adds a frame; false when there is no room. A frame larger than the bound fits an empty
    /// queue, else it could never be sent.
    #[must_use]
    pub(crate) fn push(&mut self, frame: Bytes) -> bool {
        let bytes = self.bytes + frame.len();
        let full = self.frames.len() >= limits::OUT_FRAMES_MAX || bytes > limits::OUT_BYTES_MAX;
        if full && !self.frames.is_empty() {
            return false;
        }
        self.bytes = bytes;
        self.frames.push_back(frame);
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the transport has fallen so far behind that nothing more should be asked for.
    pub(crate) fn is_crowded(&self) -> bool {
        self.frames.len() > limits::OUT_FRAMES_MAX / 4 || self.bytes > limits::OUT_BYTES_MAX / 4
    }
}
