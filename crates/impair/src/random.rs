//! Numbers that are the same for the same seed on every machine.

/// xorshift64* (Vigna 2016): small and good enough to lose packets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; near seeds give unrelated numbers.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        // The state must not be zero; the multiplication spreads small seeds.
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        random
    }

    /// 64 bits.
    #[expect(clippy::should_implement_trait, reason = "an endless source, not something to iterate over")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// At least 0 and below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_fair_and_repeat() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
            assert!((mean - 0.5).abs() < 0.02, "seed {seed}: {mean}");
            assert_eq!(Random::new(seed).next(), Random::new(seed).next());
        }
    }
}
