//! Measures what an instance takes of its machine: the game and what serves it, from one look to the next. Pure: the looks are handed in.

use std::time::Duration;

use api::node::InstanceUsage;
use api::streamer::StreamStatistics;
use sandbox::Usage;
use tokio::time::Instant;

use crate::machine::Ticks;

/// What sound takes of the way to the player: Opus at 128 kbit/s, in a hundred packets a second with 60 bytes of headers each.
const SOUND_KBPS: u32 = 176;

/// With fewer idle thousandths than this the machine had nothing left for who wanted more. Some are idle on a busy machine, too, while programs wait
/// for one another.
const STARVED_IDLE_PERMILLE: u64 = 50;

/// With a larger share of lost packets the player's way is full, and the picture was made smaller for it.
const STARVED_LOSS: f32 = 0.02;

/// A look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) game: Usage,
    /// The streamer with its display and sound.
    pub(crate) servers: Usage,
    pub(crate) machine: Option<Ticks>,
}

/// What was measured of an instance.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    before: Option<Look>,
    sample: u32,
}

impl Meter {
    /// What it took since the look before; `None` at the first, and when that one is longer ago than `most`: nobody played meanwhile.
    pub(crate) fn look(
        &mut self,
        look: Look,
        most: Duration,
        figures: &StreamStatistics,
        has_sound: bool,
    ) -> Option<InstanceUsage> {
        let before = self.before.replace(look)?;
        let took = look.at.saturating_duration_since(before.at);
        if took.is_zero() || took > most {
            return None;
        }
        let cpu = |now: &Usage, before: &Usage| now.cpu_time.saturating_sub(before.cpu_time);
        let cpu_time = cpu(&look.game, &before.game) + cpu(&look.servers, &before.servers);
        let memory_bytes = look.game.working_set_bytes.saturating_add(look.servers.working_set_bytes);
        let idle = look.machine.zip(before.machine).map(|(now, before)| now.idle_permille_since(before));
        self.sample = self.sample.saturating_add(1);
        Some(InstanceUsage {
            sample: self.sample,
            cpu_milli: narrow(cpu_time.as_micros() * 1000 / took.as_micros().max(1)),
            memory_mib: narrow(u128::from(memory_bytes >> 20)),
            // A packet of 1200 bytes has 60 of headers.
            egress_kbps: figures.video_kbps.saturating_add(figures.video_kbps / 20)
                + if has_sound { SOUND_KBPS } else { 0 },
            is_starved: idle.is_some_and(|idle| idle < STARVED_IDLE_PERMILLE) || figures.loss > STARVED_LOSS,
        })
    }
}

fn narrow(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu_ms: u64, mib: u64) -> Usage {
        Usage { cpu_time: Duration::from_millis(cpu_ms), working_set_bytes: mib << 20, ..Usage::default() }
    }

    #[tokio::test]
    async fn game_and_servers_count_together_since_the_look_before() {
        let (start, most) = (Instant::now(), Duration::from_secs(15));
        let figures = StreamStatistics { video_kbps: 4000, ..StreamStatistics::default() };
        let mut meter = Meter::default();
        let mut look = |second: u64, game: Usage, servers: Usage, loss: f32| {
            let look = Look { at: start + Duration::from_secs(second), game, servers, machine: None };
            meter.look(look, most, &StreamStatistics { loss, ..figures }, true)
        };
        assert_eq!(look(0, usage(9000, 400), usage(500, 100), 0.0), None, "there is no look before");
        let expected =
            InstanceUsage { sample: 1, cpu_milli: 1600, memory_mib: 520, egress_kbps: 4376, is_starved: false };
        assert_eq!(look(5, usage(15_000, 400), usage(2500, 120), 0.0), Some(expected));
        // A process of theirs ended, and its time is not theirs any more: no more than nothing.
        let after = look(10, usage(15_000, 400), usage(0, 120), 0.05).unwrap();
        assert_eq!((after.sample, after.cpu_milli, after.is_starved), (2, 0, true));
        assert_eq!(look(60, usage(15_000, 400), usage(0, 120), 0.0), None, "nobody played meanwhile");
        assert!(look(65, usage(15_500, 400), usage(0, 120), 0.0).is_some_and(|usage| usage.cpu_milli == 100));
    }
}
