//! What is reported that games take is about what they do take: of two side by side one burns a processor and holds memory, one sleeps.

use std::time::Duration;

use api::id::InstanceId;
use api::node::InstanceUsage;

use crate::harness::{Harness, PATIENCE};

/// Held by the game, in MiB. A shell has it twice for a moment.
const HELD_MIB: u32 = 96;

/// A little longer than figures are told again.
const AGAIN: Duration = Duration::from_millis(5300);

async fn measured(harness: &mut Harness, ids: [InstanceId; 2]) -> [InstanceUsage; 2] {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        for id in ids {
            // The contract's streamer tells figures with each answer.
            harness.offer(id, 1, "again").await.unwrap();
        }
        let usages = ids.map(|id| harness.observed(id).and_then(|instance| instance.usage));
        if let [Some(first), Some(second)] = usages {
            return [first, second];
        }
        assert!(tokio::time::Instant::now() < deadline, "never measured: {usages:?}");
        tokio::time::sleep(AGAIN).await;
        harness.until("any report", |_| true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_game_is_told_from_a_quiet_one() {
    let mut harness = Harness::new("").await;
    let hold = format!("x=$(head -c {} /dev/zero | tr '\\0' a); while :; do :; done", HELD_MIB << 20);
    let busy = harness.start(&["/bin/sh", "-c", &hold], "").await;
    let quiet = harness.start(&["/bin/sleep", "600"], "").await;
    harness.until_playing(busy).await;
    harness.until_playing(quiet).await;
    // The first look has begun when memory is held; what is compared is the one after.
    measured(&mut harness, [busy, quiet]).await;
    tokio::time::sleep(AGAIN).await;
    let [burns, sleeps] = measured(&mut harness, [busy, quiet]).await;
    println!("{burns:?} {sleeps:?}");
    assert!(burns.sample >= 1 && sleeps.sample >= 1);
    // One thread of it, on a machine that others may want, too.
    assert!((100..=1500).contains(&burns.cpu_milli), "{burns:?}");
    assert!(burns.cpu_milli > sleeps.cpu_milli * 5, "{burns:?} {sleeps:?}");
    assert!((HELD_MIB..HELD_MIB * 4).contains(&burns.memory_mib), "{burns:?}");
    assert!(sleeps.memory_mib < HELD_MIB / 2, "{sleeps:?}");
    harness.stop().await;
}
