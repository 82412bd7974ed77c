//! Bytes that look like a game's: each a function of a seed and its place, so that any part of any file can be made alone.
//!
//! Nothing here is read from the machine: the same seed makes the same bytes everywhere.

/// What a piece of a file looks like to a compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Packed sound and pictures: nothing to gain.
    Noise,
    /// Vertices and block-compressed textures: about half of it is to be gained.
    Mixed,
    /// Scripts and settings: about three quarters.
    Text,
}

/// A run of bytes: those from `start` on, of the endless stream of this kind and seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// Not in the first build.
    pub(crate) fresh: bool,
}

/// Bytes that one call of [`Source::word`] gives.
const WORD: u64 = 8;

/// Of eight characters each, a space or an end of line the last.
const WORDS: [&[u8; 8]; 16] = [
    b"texture ",
    b"material",
    b" = {    ",
    b"    },\r\n",
    b"position",
    b" float3(",
    b"0.500000",
    b"1.000000",
    b", model:",
    b" units/i",
    b"nfantry_",
    b"return; ",
    b"function",
    b"(entity)",
    b" { if ( ",
    b"animate ",
];

/// How many of eight words of a text are numbers that no dictionary knows.
const NUMBERS_OF_EIGHT: u64 = 3;

/// Mixes a number well (SplitMix64's finalizer, <https://prng.di.unimi.it/splitmix64.c>).
pub(crate) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Kind {
    /// The word at an index of this kind's stream with this seed.
    fn word(self, seed: u64, index: u64) -> [u8; 8] {
        let noise = mixed(seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        match self {
            Self::Noise => noise.to_le_bytes(),
            // Records of two words: one of noise, one of a slow counter and zeros.
            Self::Mixed if index.is_multiple_of(2) => noise.to_le_bytes(),
            Self::Mixed => ((index >> 6) & 0xffff).to_le_bytes(),
            Self::Text if noise % 8 < NUMBERS_OF_EIGHT => digits(noise >> 8),
            Self::Text => *WORDS[(noise >> 60) as usize],
        }
    }
}

fn digits(mut number: u64) -> [u8; 8] {
    let mut text = *b"0.000000";
    for digit in &mut text[2..] {
        *digit = b'0' + (number & 0xffff) as u8 % 10;
        number >>= 8;
    }
    text
}

impl Piece {
    /// The part of it from `at` on, `length` long.
    pub(crate) fn part(self, at: u64, length: u64) -> Self {
        Self { start: self.start + at, length, ..self }
    }

    /// Puts its bytes to the end of a buffer.
    pub(crate) fn write(self, buffer: &mut Vec<u8>) {
        let wanted = buffer.len() + self.length as usize;
        let ahead = (self.start % WORD) as usize;
        let first = self.start / WORD;
        let words = (self.length + self.start % WORD).div_ceil(WORD);
        buffer.reserve(self.length as usize + WORD as usize);
        for index in first..first + words {
            let word = self.kind.word(self.seed, index);
            buffer.extend_from_slice(if index == first { &word[ahead..] } else { &word });
        }
        buffer.truncate(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pieces: &[Piece]) -> Vec<u8> {
        let mut buffer = Vec::new();
        pieces.iter().for_each(|piece| piece.write(&mut buffer));
        buffer
    }

    #[test]
    fn a_piece_is_the_sum_of_its_parts() {
        for kind in [Kind::Noise, Kind::Mixed, Kind::Text] {
            let whole = Piece { kind, seed: 7, start: 3, length: 1000, fresh: false };
            assert_eq!(bytes(&[whole]).len(), 1000);
            for at in [0, 1, 8, 13, 500, 1000] {
                assert_eq!(bytes(&[whole]), bytes(&[whole.part(0, at), whole.part(at, 1000 - at)]), "{kind:?} {at}");
            }
        }
    }

    #[test]
    fn kinds_compress_as_they_say() {
        for (kind, least, most) in [(Kind::Noise, 0.99, 1.01), (Kind::Mixed, 0.45, 0.65), (Kind::Text, 0.15, 0.4)] {
            let whole = bytes(&[Piece { kind, seed: 7, start: 0, length: 1 << 20, fresh: false }]);
            let share = zstd::bulk::compress(&whole, 3).unwrap().len() as f64 / whole.len() as f64;
            assert!((least..most).contains(&share), "{kind:?}: {share}");
        }
    }
}
