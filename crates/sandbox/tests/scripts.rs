//! Scripts beside a game: in its world and nowhere else, ended with all that they started, while the game goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

mod world;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use sandbox::{Exit, Running, Script, ScriptEnd, ScriptExit};
use world::{PATIENCE, Place, is_root, wait_for_log};

/// The game says that it lives, ten times a second.
const GAME: &str = "echo mine > /tmp/of-the-game; export SECRET_OF_GAME=1; echo begun; while :; do date +%s%N > ~/beat; sleep 0.1; done";

fn script(text: &str, timeout_ms: u64) -> Script {
    Script { number: 7, text: text.to_owned(), timeout: Duration::from_millis(timeout_ms), max_output_bytes: 64 << 10 }
}

fn started(place: &Place) -> Running {
    let mut game = place.with_package(place.script(GAME));
    game.limits.processes = 100;
    game.limits.memory_bytes = 128 << 20;
    let mut running = game.start().unwrap();
    wait_for_log(place, &mut running, "begun");
    running
}

fn end(running: &mut Running) -> ScriptEnd {
    let began = Instant::now();
    loop {
        assert_eq!(running.wait_timeout(Duration::from_millis(5)), None, "the game ended");
        if let Some(end) = running.take_script_end() {
            assert_eq!(end.number, 7);
            return end;
        }
        assert!(began.elapsed() < PATIENCE, "the script does not end");
    }
}

fn run(running: &mut Running, text: &str, timeout_ms: u64) -> (ScriptExit, String) {
    running.run_script(script(text, timeout_ms)).unwrap();
    let end = end(running);
    (end.exit, String::from_utf8_lossy(&end.output).into_owned())
}

fn assert_game_goes_on(place: &Place, running: &mut Running) {
    let beat = || fs::read_to_string(place.path("home/beat")).unwrap_or_default();
    let before = beat();
    let began = Instant::now();
    while beat() == before {
        assert_eq!(running.try_wait(), None, "the game ended");
        assert!(began.elapsed() < Duration::from_secs(10), "the game stands still");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of the host whose command line has this.
fn processes(word: &str) -> usize {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}

/// Runs a test as nobody when it is not already run so.
fn as_nobody(test: &str, body: impl FnOnce()) {
    if !is_root() {
        return body();
    }
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn sees_the_games_world_and_nothing_else() {
    let place = Place::new();
    fs::write(place.path("package/game.cfg"), "original").unwrap();
    let mut running = started(&place);
    let (exit, output) = run(
        &mut running,
        "id -u; pwd; cat /tmp/of-the-game; cat game.cfg; echo; ls /; tr '\\0' '\\n' < /proc/*/environ 2>/dev/null | grep -c of.the.game
         grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status
         cat /proc/self/cgroup; hostname; tail -n +3 /proc/net/dev | cut -d: -f1; ls -l /proc/self/fd | wc -l
         for path in /x /etc/passwd /usr/x /dev/x /run/x; do (echo > $path) 2>/dev/null && echo WROTE $path; done
         for path in /root /work /etc/shadow /var/lib /opt; do [ -e $path ] && echo FOUND $path; done
         unshare -Ur true 2>&1; mount -t tmpfs x /tmp 2>&1; kill -9 1; echo from the script > /tmp/of-the-script; exit 7",
        10_000,
    );
    assert_eq!(exit, ScriptExit::Code(7), "{output}");
    let uid = if is_root() { place.uid } else { 1000 };
    assert!(output.starts_with(&format!("{uid}\n/app\nmine\noriginal\n")), "{output}");
    assert!(!output.contains("WROTE") && !output.contains("FOUND"), "{output}");
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "kite\n",
        "Operation not permitted",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
    assert!(!output.contains("kite/test-"), "the host's control groups are seen: {output}");
    // The game finds what the script wrote: it is one world.
    assert_eq!(run(&mut running, "cat /tmp/of-the-script", 5000), (ScriptExit::Code(0), "from the script\n".into()));
    // Descriptors: 0, 1, 2, and what lists them.
    let (_, descriptors) = run(&mut running, "exec ls /proc/self/fd", 5000);
    assert_eq!(descriptors, "0\n1\n2\n3\n", "a descriptor of the host is open");
    assert_game_goes_on(&place, &mut running);
    running.stop(Duration::ZERO);
    assert_eq!(running.wait_timeout(PATIENCE), Some(Exit::Signal(9)));
}

#[test]
fn a_script_sees_the_games_world_and_nothing_else() {
    sees_the_games_world_and_nothing_else();
}

#[test]
fn the_same_without_root() {
    as_nobody("the_same_without_root", sees_the_games_world_and_nothing_else);
}

fn hostile_scripts_end() {
    let place = Place::new();
    let mut running = started(&place);
    let mark = format!("{}7", 80_000 + std::process::id() % 10_000);
    for (what, text) in [
        ("ignores signals", format!("trap '' TERM HUP INT; setsid sleep {mark} & while :; do sleep 0.01; done")),
        ("forks forever", format!("(setsid sleep {mark} &); (f() {{ f | f & }}; f) & while :; do :; done")),
        (
            "hops from process to process",
            format!("hop() {{ ( exec >/dev/null; sleep {mark} & hop & ) }}; hop & while :; do :; done"),
        ),
        ("writes gigabytes", "exec cat /dev/zero".to_owned()),
        ("eats memory", "exec tail /dev/zero".to_owned()),
    ] {
        let began = Instant::now();
        running.run_script(script(&text, 1500)).unwrap();
        let end = end(&mut running);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(8), "{what}: {took:?}");
        if what != "eats memory" {
            assert_eq!(end.exit, ScriptExit::TimedOut, "{what}");
            assert!(took >= Duration::from_millis(1500), "{what}: {took:?}");
        }
        assert!(end.output.len() <= 64 << 10, "{what}");
        if what == "writes gigabytes" {
            assert!(end.cut_bytes > 1 << 20, "{}", end.cut_bytes);
        }
        // The kernel has ended them before the end is told.
        assert_eq!(processes(&mark), 0, "{what}: something is left");
        assert_game_goes_on(&place, &mut running);
        assert_eq!(run(&mut running, "echo still", 5000), (ScriptExit::Code(0), "still\n".into()), "{what}");
    }
    running.stop(Duration::ZERO);
    assert_eq!(running.wait_timeout(PATIENCE), Some(Exit::Signal(9)), "not for want of memory");
}

#[test]
fn hostile_scripts_end_at_their_time_with_all_that_they_started() {
    hostile_scripts_end();
}

#[test]
fn the_same_of_hostile_ones_without_root() {
    as_nobody("the_same_of_hostile_ones_without_root", hostile_scripts_end);
}

#[test]
fn one_at_a_time_and_given_up_when_nobody_waits() {
    let place = Place::new();
    let mut running = started(&place);
    running.run_script(script("sleep 600", 60_000)).unwrap();
    running.run_script(Script { number: 8, ..script("echo second", 1000) }).unwrap();
    let second = loop {
        assert_eq!(running.wait_timeout(Duration::from_millis(5)), None);
        if let Some(end) = running.take_script_end() {
            break end;
        }
    };
    assert_eq!((second.number, second.exit), (8, ScriptExit::Lost("another script runs".into())));
    running.end_script(7);
    assert_eq!(end(&mut running).exit, ScriptExit::Lost("it was given up".into()));
    let (exit, output) = run(&mut running, "printf '\\377\\000\\376'; kill -SEGV $$", 5000);
    assert_eq!(exit, ScriptExit::Signal(11), "{output}");
    // A game that ends takes its script along, without a wait.
    running.run_script(script("sleep 600", 60_000)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    running.stop(Duration::ZERO);
    assert_eq!(running.wait_timeout(PATIENCE), Some(Exit::Signal(9)));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_helper_that_is_killed_takes_the_script_along() {
    let place = Place::new();
    let mut running = started(&place);
    let mark = format!("{}9", 80_000 + std::process::id() % 10_000);
    running.run_script(script(&format!("setsid sleep {mark}"), 60_000)).unwrap();
    let began = Instant::now();
    while processes(&mark) == 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    // The init inside is a child of the helper.
    let stat = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent =
        |pid: i32| stat(pid).rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse::<i32>().unwrap();
    let helper = parent(parent(running.pid()));
    rustix::process::kill_process(rustix::process::Pid::from_raw(helper).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(running.wait_timeout(PATIENCE), Some(Exit::Lost));
    let began = Instant::now();
    while processes(&mark) > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "the script outlives its helper");
        std::thread::sleep(Duration::from_millis(5));
    }
}
