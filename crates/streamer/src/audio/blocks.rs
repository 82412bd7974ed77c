//! Bytes of captured sound to blocks of 10 ms, and no blocks while there is silence. Pure.

use std::time::{Duration, Instant};

use media::PcmBlock;

/// Samples of a block, both channels counted: 10 ms.
const SAMPLES_PER_BLOCK: usize = BYTES_PER_BLOCK / 2;

/// Bytes of a block: 480 frames of two 16-bit samples.
pub(super) const BYTES_PER_BLOCK: usize = PcmBlock::SAMPLE_RATE as usize / 100 * PcmBlock::CHANNELS * 2;

/// Blocks of pure zeroes that are passed on before silence begins, half a second. Fewer cut the codec off while it still fades
/// out; more send nothing for longer.
const SILENCE_AFTER: u32 = 50;

/// Cuts the stream into blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    samples: Vec<i16>,
    /// First byte of a sample whose second has not arrived.
    half: Option<u8>,
    /// Blocks of zeroes in a row.
    silent: u32,
}

impl Blocks {
    /// Takes bytes that arrived at `arrival`, and hands out the blocks that are complete.
    pub(super) fn push(&mut self, bytes: &[u8], arrival: Instant, give: &mut dyn FnMut(PcmBlock)) {
        let mut left = bytes.len();
        for byte in bytes {
            left -= 1;
            let Some(low) = self.half.take() else {
                self.half = Some(*byte);
                continue;
            };
            self.samples.push(i16::from_le_bytes([low, *byte]));
            if self.samples.len() == SAMPLES_PER_BLOCK {
                self.complete(arrival.checked_sub(duration(left)).unwrap_or(arrival), give);
            }
        }
    }

    fn complete(&mut self, captured: Instant, give: &mut dyn FnMut(PcmBlock)) {
        let silent = self.samples.iter().all(|sample| *sample == 0);
        self.silent = if silent { self.silent.saturating_add(1) } else { 0 };
        if self.silent > SILENCE_AFTER {
            self.samples.clear();
            return;
        }
        let samples = std::mem::replace(&mut self.samples, Vec::with_capacity(SAMPLES_PER_BLOCK));
        give(PcmBlock { samples, captured });
    }
}

/// How long these bytes sound.
fn duration(bytes: usize) -> Duration {
    Duration::from_millis(10) * bytes as u32 / BYTES_PER_BLOCK as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(blocks: &mut Blocks, bytes: &[u8], arrival: Instant) -> Vec<PcmBlock> {
        let mut given = Vec::new();
        blocks.push(bytes, arrival, &mut |block| given.push(block));
        given
    }

    #[test]
    fn blocks_are_480_frames_however_the_bytes_arrive() {
        let bytes: Vec<u8> = (0..BYTES_PER_BLOCK * 3).map(|index| (index % 251) as u8 + 1).collect();
        let whole = push(&mut Blocks::default(), &bytes, Instant::now());
        let mut blocks = Blocks::default();
        let pieces: Vec<PcmBlock> =
            bytes.chunks(777).flat_map(|piece| push(&mut blocks, piece, Instant::now())).collect();
        assert_eq!((whole.len(), pieces.len()), (3, 3));
        for (whole, piece) in whole.iter().zip(&pieces) {
            assert_eq!(whole.samples.len(), 960);
            assert_eq!(whole.samples, piece.samples);
        }
        assert_eq!(whole[0].samples[..2], [i16::from_le_bytes([1, 2]), i16::from_le_bytes([3, 4])]);
    }

    #[test]
    fn earlier_blocks_of_one_arrival_were_captured_earlier() {
        let arrival = Instant::now();
        let given = push(&mut Blocks::default(), &vec![1; BYTES_PER_BLOCK * 2 + BYTES_PER_BLOCK / 2], arrival);
        let ages: Vec<Duration> = given.iter().map(|block| arrival - block.captured).collect();
        assert_eq!(ages, [Duration::from_millis(15), Duration::from_millis(5)]);
    }

    #[test]
    fn silence_stops_and_sound_starts_again_at_once() {
        let mut blocks = Blocks::default();
        let now = Instant::now();
        assert_eq!(push(&mut blocks, &vec![0; BYTES_PER_BLOCK * 80], now).len(), 50);
        assert_eq!(push(&mut blocks, &vec![0; BYTES_PER_BLOCK], now).len(), 0);
        assert_eq!(push(&mut blocks, &vec![1; BYTES_PER_BLOCK], now).len(), 1);
        assert_eq!(push(&mut blocks, &vec![0; BYTES_PER_BLOCK], now).len(), 1);
    }
}
