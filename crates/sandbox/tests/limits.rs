//! What a game cannot take more of than it was given.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

mod world;

use std::fs;
use std::time::{Duration, Instant};

use sandbox::{Exit, Mechanism};
use world::{Place, wait_for_log};

/// Every process forks for ever, and the first one never ends.
const BOMB: &str =
    "exec perl -e 'while (1) { defined(fork) or print(\"fork: $!\\n\"), select(undef, undef, undef, 0.1) }'";

const EAT: &str = "perl -e 'my @a; push @a, \"x\" x 1_000_000 while 1'";

#[test]
fn a_memory_eater_is_killed_alone_and_named() {
    let (eater, bystander) = (Place::new(), Place::new());
    let mut calm = bystander.script("echo ready; sleep 30; echo survived").start().unwrap();
    wait_for_log(&bystander, &mut calm, "ready");
    let mut sandbox = eater.command(["/usr/bin/perl", "-e", "my @a; push @a, \"x\" x 1_000_000 while 1"]);
    sandbox.limits.memory_bytes = 64 << 20;
    let mut running = sandbox.start().unwrap();
    assert!(matches!(running.enforced().memory, Mechanism::CgroupV1 | Mechanism::CgroupV2), "{:?}", running.enforced());
    assert_eq!(running.wait_timeout(world::PATIENCE), Some(Exit::OutOfMemory));
    let peak = running.usage().memory_peak_bytes;
    assert!((60 << 20..=64 << 20).contains(&peak), "{peak}");
    assert_eq!(calm.try_wait(), None);
}

#[test]
fn an_eater_behind_a_launcher_is_named_too() {
    let place = Place::new();
    let mut sandbox = place.script(&format!("{EAT}; exit 9"));
    sandbox.limits.memory_bytes = 64 << 20;
    assert_eq!(place.run(sandbox).0, Exit::OutOfMemory);
}

#[test]
fn files_in_memory_count_as_memory() {
    let place = Place::new();
    let mut sandbox = place.script("dd if=/dev/zero of=/dev/shm/x bs=1M count=200 2>/dev/null; echo over");
    sandbox.limits.memory_bytes = 64 << 20;
    let (_, output) = place.run(sandbox);
    let size = output.contains("over");
    // Either the writer alone or everything was killed; what was written is gone with it.
    assert!(size || output.is_empty(), "{output}");
}

#[test]
fn a_fork_bomb_is_bounded() {
    let place = Place::new();
    let mut sandbox = place.script(BOMB);
    sandbox.limits.processes = 50;
    let mut running = sandbox.start().unwrap();
    wait_for_log(&place, &mut running, "fork: ");
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(running.usage().processes);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!((10..=52).contains(&most), "{most}");
    let asked = Instant::now();
    running.stop(Duration::ZERO);
    assert!(running.wait_timeout(Duration::from_secs(5)).is_some());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[test]
fn temporary_files_are_bounded() {
    let place = Place::new();
    let mut sandbox = place.script("for d in /tmp /dev/shm $XDG_RUNTIME_DIR; do dd if=/dev/zero of=$d/x bs=1M count=64 2>&1; stat -c %s $d/x; done");
    sandbox.limits.tmp_bytes = 8 << 20;
    sandbox.limits.shm_bytes = 8 << 20;
    let (_, output) = place.run(sandbox);
    assert_eq!(output.matches("No space left on device").count(), 3, "{output}");
    assert_eq!(output.matches("\n8388608\n").count(), 2, "{output}");
}

#[test]
fn a_full_disk_ends_only_the_game_that_filled_it() {
    let place = Place::new();
    let mut sandbox = place
        .script("n=0; while :; do n=$((n+1)); dd if=/dev/zero of=$HOME/$n bs=1M count=8 2>/dev/null; sleep 0.1; done");
    sandbox.limits.disk_bytes = 24 << 20;
    let started = Instant::now();
    assert_eq!(place.run(sandbox).0, Exit::DiskFull);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn files_without_a_name_count_too() {
    let place = Place::new();
    let hold = "perl -e 'for (1..8) { open my $f, \">\", \"$ENV{HOME}/$_\"; print $f \"x\" x (8 << 20); $f->flush; \
                unlink \"$ENV{HOME}/$_\"; push @held, $f } sleep 60'";
    let mut sandbox = place.script(hold);
    sandbox.limits.disk_bytes = 24 << 20;
    assert_eq!(place.run(sandbox).0, Exit::DiskFull);
}

#[test]
fn one_file_cannot_be_larger_than_the_disk_limit() {
    let place = Place::new();
    let mut sandbox = place.script("perl -e '$SIG{XFSZ} = \"IGNORE\"; open F, \">\", \"$ENV{HOME}/x\"; truncate F, 1 << 40 or print \"refused: $!\"'");
    sandbox.limits.disk_bytes = 1 << 30;
    let (_, output) = place.run(sandbox);
    assert_eq!(output, "refused: File too large");
}

#[test]
fn processor_time_is_shared_out() {
    let place = Place::new();
    let mut sandbox = place.script("echo ready; while :; do :; done & while :; do :; done");
    sandbox.limits.cpu_cores = 0.25;
    let mut running = sandbox.start().unwrap();
    assert!(matches!(running.enforced().cpu, Mechanism::CgroupV1 | Mechanism::CgroupV2), "{:?}", running.enforced());
    wait_for_log(&place, &mut running, "ready");
    let (began, before) = (Instant::now(), running.usage().cpu_time);
    std::thread::sleep(Duration::from_secs(2));
    let share = (running.usage().cpu_time - before).as_secs_f64() / began.elapsed().as_secs_f64();
    // Less is possible on a busy machine.
    assert!((0.02..0.32).contains(&share), "{share}");
}

#[test]
fn open_files_are_bounded() {
    let place = Place::new();
    let mut sandbox = place.script("ulimit -n; ulimit -Hn; ulimit -c");
    sandbox.limits.open_files = 100;
    assert_eq!(place.run(sandbox).1, "100\n100\n0\n");
}

#[test]
fn a_talkative_game_fills_nothing() {
    let place = Place::new();
    let mut sandbox =
        place.script("yes the same line again and again & sleep 2; kill $!; wait; echo; echo the last word");
    sandbox.log = Some(sandbox::Log { file: place.path("log"), max_bytes: 64 << 10 });
    let (exit, output) = place.run(sandbox);
    assert_eq!(exit, Exit::Code(0));
    assert!(output.ends_with("the last word\n"), "{:?}", output.get(output.len().saturating_sub(200)..));
    let length: u64 = ["log", "log.1"].iter().map(|name| fs::metadata(place.path(name)).unwrap().len()).sum();
    assert!(length <= 64 << 10, "{length}");
}
