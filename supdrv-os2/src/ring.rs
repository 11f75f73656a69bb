//! The driver's log: a ring that reads of the device take text from. Text is dropped while it is full.

use crate::spin::Guarded;

/// Room, a power of two; one byte of it stays empty.
const BYTES: usize = 16384;

struct Ring {
    text: [u8; BYTES],
    /// Next write and next read.
    head: usize,
    tail: usize,
}

static RING: Guarded<Ring> = Guarded::new(Ring { text: [0; BYTES], head: 0, tail: 0 });

impl Ring {
    fn put(&mut self, byte: u8) -> bool {
        let next = (self.head + 1) % BYTES;
        let place = self.text.get_mut(self.head).filter(|_| next != self.tail);
        let Some(place) = place else { return false };
        *place = byte;
        self.head = next;
        true
    }

    fn take(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.tail).filter(|_| self.head != self.tail)?;
        self.tail = (self.tail + 1) % BYTES;
        Some(byte)
    }
}

/// An empty ring. Class T, once.
pub fn init() {
    RING.init();
    RING.with(|ring| (ring.head, ring.tail) = (0, 0));
}

/// Class T; it isn't used any more.
pub fn deinit() {
    RING.deinit();
}

/// Adds a line. Class I.
pub fn write(text: &[u8]) {
    let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    RING.with(|ring| text.iter().chain(end).all(|byte| ring.put(*byte)));
}

/// How much could be read now. Class I.
pub fn available() -> usize {
    RING.with(|ring| ring.head.wrapping_sub(ring.tail) % BYTES)
}

/// Takes the oldest text; how much there was. Class I.
pub fn read(to: &mut [u8]) -> usize {
    RING.with(|ring| {
        let mut count = 0;
        for place in to {
            let Some(byte) = ring.take() else { break };
            *place = byte;
            count += 1;
        }
        count
    })
}
