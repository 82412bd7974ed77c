//! What a session takes of a node, and what a node has: the same vector for both.

use std::fmt;

/// A dimension of [`Resources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Places.
    Sessions,
    /// Thousandths of a processor.
    Cpu,
    /// Memory in MiB.
    Memory,
    /// Thousandths of a GPU.
    Gpu,
    /// What the encoders do, in thousands of pixels a second.
    Encoder,
    /// What goes out to players, in kilobits a second.
    Egress,
}

impl Dimension {
    /// In the order of [`Resources::amounts`].
    pub const ALL: [Dimension; 6] =
        [Dimension::Sessions, Dimension::Cpu, Dimension::Memory, Dimension::Gpu, Dimension::Encoder, Dimension::Egress];

    /// As people say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Sessions => "places",
            Dimension::Cpu => "processor",
            Dimension::Memory => "memory",
            Dimension::Gpu => "GPU",
            Dimension::Encoder => "encoder",
            Dimension::Egress => "network",
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Shares are told in millionths.
pub const WHOLE_SHARE: u32 = 1_000_000;

/// So much of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Places; a session takes one.
    pub sessions: u32,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Thousandths of a GPU.
    pub gpu_milli: u32,
    /// Thousands of pixels that are encoded a second.
    pub encoder_kpixels: u32,
    /// Kilobits a second to players.
    pub egress_kbps: u32,
}

impl Resources {
    /// The amounts, in the order of [`Dimension::ALL`].
    #[must_use]
    pub fn amounts(&self) -> [u32; 6] {
        [self.sessions, self.cpu_milli, self.memory_mib, self.gpu_milli, self.encoder_kpixels, self.egress_kbps]
    }

    fn of(amounts: [u32; 6]) -> Resources {
        let [sessions, cpu_milli, memory_mib, gpu_milli, encoder_kpixels, egress_kbps] = amounts;
        Resources { sessions, cpu_milli, memory_mib, gpu_milli, encoder_kpixels, egress_kbps }
    }

    fn zip(&self, other: &Resources, join: impl Fn(u32, u32) -> u32) -> Resources {
        let mut amounts = self.amounts();
        for (amount, other) in amounts.iter_mut().zip(other.amounts()) {
            *amount = join(*amount, other);
        }
        Resources::of(amounts)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Resources) -> Resources {
        self.zip(other, u32::saturating_add)
    }

    /// What is left; nothing of what is overdrawn.
    #[must_use]
    pub fn minus(&self, other: &Resources) -> Resources {
        self.zip(other, u32::saturating_sub)
    }

    /// The larger one of each.
    #[must_use]
    pub fn most(&self, other: &Resources) -> Resources {
        self.zip(other, u32::max)
    }

    /// True when so much is there.
    #[must_use]
    pub fn fits_in(&self, free: &Resources) -> bool {
        self.amounts().iter().zip(free.amounts()).all(|(needed, free)| *needed <= free)
    }

    /// The first dimension of which there is too little.
    #[must_use]
    pub fn lacks(&self, free: &Resources) -> Option<Dimension> {
        let amounts = self.amounts().into_iter().zip(free.amounts()).zip(Dimension::ALL);
        amounts.into_iter().find(|((needed, free), _)| needed > free).map(|(_, dimension)| dimension)
    }

    /// The largest share of the whole that this is, over its dimensions, in millionths: its dominant share (Ghodsi et al. 2011). More than all
    /// when it does not fit. What the whole has nothing of counts only when it is needed.
    #[must_use]
    pub fn share_of(&self, whole: &Resources) -> u32 {
        let share = |(part, whole): (u32, u32)| match (part, whole) {
            (0, _) => 0,
            (_, 0) => u32::MAX,
            (part, whole) => {
                u32::try_from(u64::from(part) * u64::from(WHOLE_SHARE) / u64::from(whole)).unwrap_or(u32::MAX)
            }
        };
        self.amounts().into_iter().zip(whole.amounts()).map(share).max().unwrap_or(0)
    }

    /// The smallest share of the whole that is left, over the dimensions that the whole has, in millionths.
    #[must_use]
    pub fn least_share_of(&self, whole: &Resources) -> u32 {
        let left = self.amounts().into_iter().zip(whole.amounts()).filter(|(_, whole)| *whole > 0);
        let share = |(part, whole): (u32, u32)| u64::from(part) * u64::from(WHOLE_SHARE) / u64::from(whole);
        left.map(share).min().map_or(0, |share| u32::try_from(share).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_what_is_scarcest() {
        let node = Resources { sessions: 10, cpu_milli: 8000, memory_mib: 16_000, ..Resources::default() };
        let need = Resources { sessions: 1, cpu_milli: 4000, memory_mib: 1000, ..Resources::default() };
        assert_eq!(need.share_of(&node), WHOLE_SHARE / 2);
        assert_eq!(node.minus(&need).least_share_of(&node), WHOLE_SHARE / 2);
        assert!(need.fits_in(&node) && need.lacks(&node).is_none());
        let with_gpu = Resources { gpu_milli: 1, ..need };
        assert_eq!((with_gpu.lacks(&node), with_gpu.share_of(&node)), (Some(Dimension::Gpu), u32::MAX));
        assert_eq!(Resources::default().share_of(&Resources::default()), 0);
        assert_eq!(need.minus(&node), Resources::default());
    }
}
