//! Plans over a seeded network in simulated time: what the player sees on bad paths.
//!
//! Each plan prints a line a second (`cargo test -p transport --test plans -- --nocapture`).

mod support;

use std::time::Duration;

use impair::Conditions;
use media::Bitrate;
use support::{World, bottleneck, delay, limits, ms};
use transport::{PeerEvent, Statistics};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a plan promises between two times.
struct Expect {
    from: Duration,
    to: Duration,
    /// Longest time without a new picture.
    gap: Duration,
    /// 99th percentile of a frame's way, milliseconds.
    age_p99: u64,
    /// Frames that arrived, at least.
    frames: usize,
    /// Largest target, kbit/s.
    target: u64,
}

fn check(world: &World, expect: &Expect) {
    world.print(secs(1));
    assert_eq!(world.corrupt, 0, "a frame arrived otherwise than it was sent");
    let gap = world.longest_gap(expect.from);
    assert!(gap <= expect.gap, "a gap of {gap:?}");
    let age = world.percentile(expect.from, expect.to, 99);
    assert!(age <= expect.age_p99, "99 % of the frames took up to {age} ms");
    let frames = world.shown_between(expect.from, expect.to);
    assert!(frames >= expect.frames, "{frames} frames");
    let target = world.largest_target(expect.from, expect.to);
    assert!(target <= expect.target, "a target of {target} kbit/s");
}

#[test]
fn a_good_path_is_used_at_once_and_frames_leave_in_one_burst() {
    let mut world = World::new(limits(300, 8000, 20_000), &delay(25), 1);
    world.run(secs(10));
    let expect = Expect { from: secs(2), to: secs(9), gap: ms(40), age_p99: 27, frames: 415, target: 20_000 };
    check(&world, &expect);
    assert_eq!(world.target_at(secs(6)), 20_000, "the whole width is found within seconds");
    assert!(world.audio_packets > 900, "{} audio packets", world.audio_packets);
    assert_eq!(world.saw(&PeerEvent::Connected), 1);
}

#[test]
fn three_percent_loss_at_fifty_milliseconds_freezes_nothing() {
    for seed in 1..4 {
        let mut world = World::new(limits(300, 3000, 4000), &Conditions { loss: 0.03, ..delay(25) }, seed);
        world.run(secs(30));
        let expect = Expect { from: secs(2), to: secs(29), gap: ms(500), age_p99: 200, frames: 1550, target: 4000 };
        check(&world, &expect);
        let resent = world.statistics.last().map_or(0, |(_, statistics)| statistics.resent);
        assert!(resent > 100, "{resent} packets resent");
        assert!(world.target_at(secs(29)) > 3500, "random loss is no congestion: {}", world.target_at(secs(29)));
    }
}

#[test]
fn a_stream_that_starts_at_eight_megabits_settles_under_two() {
    for seed in 1..4 {
        let mut world = World::new(limits(300, 8000, 20_000), &bottleneck(25, 2_000_000, 128 * 1024), seed);
        world.run(secs(40));
        // 25 ms of way and 15 to 20 ms that a frame takes through two megabits.
        let settled = Expect { from: secs(5), to: secs(39), gap: ms(250), age_p99: 130, frames: 1900, target: 2100 };
        check(&world, &settled);
        let (early, late) = (world.percentile(secs(5), secs(15), 50), world.percentile(secs(29), secs(39), 50));
        assert!(late <= early + 10, "the delay grew from {early} to {late} ms");
        let used = (100..390).map(|tenth| world.target_at(ms(tenth * 100))).sum::<u64>() / 290;
        assert!(used > 1350, "the width is used: {used} kbit/s on average");
    }
}

#[test]
fn a_path_that_becomes_narrow_and_wide_again_is_followed() {
    for (seed, queue) in [(1, 128), (2, 64), (3, 256), (4, 128)] {
        let mut world = World::new(limits(300, 8000, 8000), &delay(25), seed);
        world.run(secs(8));
        world.down.set(bottleneck(25, 2_000_000, queue * 1024));
        world.run(secs(25));
        world.down.set(delay(25));
        world.run(secs(50));
        let narrow = Expect { from: secs(13), to: secs(25), gap: ms(250), age_p99: 130, frames: 650, target: 2100 };
        check(&world, &narrow);
        let change = world.longest_gap(secs(2));
        // Up to a hundred packets are lost at once, more than the test's player asks for again: it waits for a key frame.
        assert!(change < ms(2000), "the change itself is a gap of {change:?}");
        assert!(world.target_at(secs(45)) > 7000, "back to {} kbit/s", world.target_at(secs(45)));
    }
}

#[test]
fn a_still_screen_keeps_the_width_for_when_it_moves() {
    let mut world = World::new(limits(300, 8000, 20_000), &delay(25), 1);
    world.source.activity = 0.02;
    world.run(secs(20));
    world.source.activity = 1.0;
    world.run(secs(25));
    let expect = Expect { from: secs(20), to: secs(24), gap: ms(40), age_p99: 30, frames: 235, target: 20_000 };
    check(&world, &expect);
    assert!(world.target_at(secs(20)) > 15_000, "{} kbit/s", world.target_at(secs(20)));
    assert_eq!(world.source.skipped, 0);
}

#[test]
fn a_short_queue_shows_as_loss_and_is_obeyed() {
    let mut world = World::new(limits(300, 8000, 20_000), &bottleneck(25, 3_000_000, 12 * 1024), 1);
    world.run(secs(30));
    let expect = Expect { from: secs(5), to: secs(29), gap: ms(800), age_p99: 400, frames: 1300, target: 3100 };
    check(&world, &expect);
}

#[test]
fn jitter_reordering_and_duplicates_do_not_matter() {
    let path = Conditions { jitter: ms(4), loss: 0.005, duplicate: 0.02, reorder: true, ..delay(10) };
    let mut world = World::new(limits(300, 3000, 4000), &path, 5);
    world.run(secs(20));
    let expect = Expect { from: secs(2), to: secs(19), gap: ms(300), age_p99: 150, frames: 990, target: 4000 };
    check(&world, &expect);
    // The engine takes packets that a report came too early for as lost, which costs it a part of the width.
    assert!(world.target_at(secs(19)) > 1000, "{}", world.target_at(secs(19)));
}

#[test]
fn a_cut_of_five_seconds_is_survived() {
    let mut world = World::new(limits(300, 4000, 4000), &delay(25), 1);
    world.run(secs(5));
    for cut in [true, false] {
        for link in [&mut world.up, &mut world.down] {
            link.set(Conditions { cut, ..delay(25) });
        }
        world.run(if cut { secs(10) } else { secs(16) });
    }
    world.print(secs(1));
    assert_eq!(world.saw(&PeerEvent::Disconnected), 1);
    assert_eq!(world.saw(&PeerEvent::Connected), 2);
    assert!(world.shown_between(secs(13), secs(15)) > 100, "it plays again");
    assert!(world.percentile(secs(13), secs(15), 99) < 80);
}

#[test]
fn a_player_that_vanishes_is_given_up() {
    let mut world = World::new(limits(300, 4000, 4000), &delay(25), 1);
    world.run(secs(3));
    world.up.set(Conditions { cut: true, ..delay(25) });
    world.run(secs(40));
    assert_eq!(world.saw(&PeerEvent::Disconnected), 1);
    assert_eq!(world.saw(&PeerEvent::Closed(transport::CloseReason::Silent)), 1);
    let sent_at_the_end = world.down.counters().sent;
    world.run(secs(45));
    assert_eq!(world.down.counters().sent, sent_at_the_end, "a closed peer is silent");
}

#[test]
fn limits_hold_and_change() {
    let mut world = World::new(limits(1000, 2000, 3000), &bottleneck(10, 700_000, 64 * 1024), 1);
    world.run(secs(8));
    assert_eq!(world.target_at(secs(8)), 1000, "never below the lowest");
    let mut world = World::new(limits(300, 2000, 3000), &delay(10), 1);
    world.run(secs(8));
    assert_eq!(world.target_at(secs(8)), 3000);
    let now = world.now;
    world.peer.set_limits(limits(300, 2000, 1500), now);
    world.run(secs(9));
    assert_eq!(world.target_at(secs(9)), 1500);
    world.peer.set_limits(limits(300, 2000, 6000), now);
    world.run(secs(16));
    assert_eq!(world.target_at(secs(16)), 6000);
}

#[test]
fn statistics_tell_what_happens() {
    let mut world = World::new(limits(300, 2000, 3000), &Conditions { loss: 0.02, ..delay(30) }, 2);
    world.run(secs(12));
    let recent: Vec<Statistics> = world.statistics.iter().rev().take(5).map(|(_, statistics)| *statistics).collect();
    assert!((9..=12).contains(&world.statistics.len()), "one a second: {}", world.statistics.len());
    for statistics in &recent {
        let round_trip = statistics.round_trip.unwrap();
        assert!((ms(60)..ms(160)).contains(&round_trip), "{round_trip:?}");
        assert!(statistics.loss < 0.1 && statistics.sent > Bitrate::from_kbps(1500), "{statistics:?}");
    }
    let loss = recent.iter().map(|statistics| statistics.loss).sum::<f32>() / recent.len() as f32;
    assert!((0.003..0.05).contains(&loss), "{loss}");
}
