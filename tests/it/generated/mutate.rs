//! Makes inputs of valid ones: bits that flip, parts that move, lengths that lie.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

/// No input is longer than this.
const LONGEST: usize = 4096;

/// What stands for a boundary in many formats.
const BYTES: [u8; 18] = [
    0, 1, 0x7f, 0x80, 0x90, 0x93, 0xc0, 0xc1, 0xc4, 0xc6, 0xdb, 0xdd, 0xdf, 0xff, b'\n', b'"',
    b'[', b'{',
];

/// Makes inputs, the same ones for the same seed.
pub(crate) struct Generator {
    rng: SmallRng,
    corpus: Vec<Vec<u8>>,
    input: Vec<u8>,
}

impl Generator {
    pub(crate) fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            corpus,
            input: Vec::new(),
        }
    }

    /// Makes the next input.
    pub(crate) fn next(&mut self) -> &[u8] {
        self.input.clear();
        if self.rng.random_ratio(1, 32) {
            let length = self.rng.random_range(0..256);
            self.input.resize(length, 0);
            self.rng.fill_bytes(&mut self.input);
            return &self.input;
        }
        let at = self.rng.random_range(0..self.corpus.len());
        self.input.extend_from_slice(&self.corpus[at]);
        // Some stay as they are: a valid input must stay one.
        for _ in 0..self.rng.random_range(0..6) {
            self.change();
        }
        self.input.truncate(LONGEST);
        &self.input
    }

    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.rng.random_range(0..=length);
        let end = self.rng.random_range(start..=length.min(start + 64));
        start..end
    }

    fn change(&mut self) {
        let length = self.input.len();
        let at = self.rng.random_range(0..=length);
        match self.rng.random_range(0..9) {
            0 | 1 if at < length => self.input[at] ^= 1 << self.rng.random_range(0..8),
            2 if at < length => self.input[at] = BYTES[self.rng.random_range(0..BYTES.len())],
            // A length field, or whatever stands there.
            3 => {
                let number: u32 = match self.rng.random_range(0..4) {
                    0 => self.rng.random_range(0..8),
                    1 => u32::MAX - self.rng.random_range(0..8),
                    2 => self.rng.random_range(0..2048),
                    _ => 1 << self.rng.random_range(0..32),
                };
                let bytes = number.to_be_bytes();
                let width = [1, 2, 4][self.rng.random_range(0..3)];
                for (to, from) in self.input[at..].iter_mut().zip(&bytes[4 - width..]) {
                    *to = *from;
                }
            }
            4 => {
                let part = self.part(length);
                self.input.drain(part);
            }
            5 => {
                let part = self.part(length);
                let copy = self.input[part].to_vec();
                self.input.splice(at..at, copy);
            }
            // The beginning of this, and the end of another.
            6 => {
                let other = &self.corpus[self.rng.random_range(0..self.corpus.len())];
                let from = self.rng.random_range(0..=other.len());
                self.input.truncate(at);
                self.input.extend_from_slice(&other[from..]);
            }
            // Nesting.
            7 => {
                let opener: &[u8] =
                    [&b"\x91"[..], b"\x81\xa1a", b"[", b"{\"a\":"][self.rng.random_range(0..4)];
                let depth = self.rng.random_range(1..200);
                self.input.splice(at..at, opener.repeat(depth));
            }
            _ => self.input.truncate(at),
        }
    }
}
