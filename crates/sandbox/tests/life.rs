//! Starting, ending, being ended, and what is left: nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Exit, Running};
use world::{Place, wait_for_log};

fn is_alive(pid: i32) -> bool {
    // A zombie whose parent has not looked yet is dead.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn parent_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Control groups anywhere whose name contains this.
fn groups(name: &str) -> Vec<String> {
    let find =
        Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{name}*")]).output().unwrap();
    String::from_utf8(find.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn start(place: &Place, script: &str) -> Running {
    let mut running = place.script(script).start().unwrap();
    wait_for_log(place, &mut running, "ready");
    running
}

fn check(script: &str, expected: Exit) {
    let place = Place::new();
    assert_eq!(place.run(place.script(script)).0, expected, "{script}");
}

#[test]
fn the_end_is_told_as_it_was() {
    check("exit 0", Exit::Code(0));
    check("exit 7", Exit::Code(7));
    check("kill -SEGV $$", Exit::Signal(11));
    check("kill -KILL $$", Exit::Signal(9));
    check("exit 137", Exit::Code(137));
}

#[test]
fn everything_ends_with_the_main_process() {
    let place = Place::new();
    let mut running = start(&place, "sleep 100 & (setsid sleep 101 &) ; echo ready; sleep 0.5");
    let init = parent_of(running.pid());
    let inside = || fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
    let seen: Vec<i32> = inside().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(seen.len() >= 2, "{seen:?}");
    assert_eq!(running.wait(), Exit::Code(0));
    assert!(seen.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn orphans_are_buried() {
    let place = Place::new();
    let mut running = start(&place, "for n in $(seq 200); do (sleep 0 &); done; sleep 0.5; echo ready; sleep 30");
    assert!(running.usage().processes <= 4, "{:?}", running.usage());
    running.stop(Duration::ZERO);
    running.wait();
}

#[test]
fn signals_are_as_a_new_program_expects() {
    let place = Place::new();
    let status = place.output("exec cat /proc/self/status");
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        // Without those that the C library keeps for itself, 32 and 33.
        u64::from_str_radix(line.trim(), 16).unwrap() & !0x1_8000_0000
    };
    assert_eq!((mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")), (0, 0, 0), "{status}");
}

#[test]
fn a_game_without_a_handler_ends_at_once() {
    let place = Place::new();
    let mut running = start(&place, "echo ready; exec sleep 100");
    let asked = Instant::now();
    running.stop(Duration::from_secs(20));
    assert_eq!(running.wait_timeout(Duration::from_secs(10)), Some(Exit::Signal(15)));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[test]
fn a_polite_game_ends_itself() {
    let place = Place::new();
    let mut running = start(&place, "trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    running.stop(Duration::from_secs(20));
    assert_eq!(running.wait_timeout(Duration::from_secs(10)), Some(Exit::Code(3)));
    assert!(place.log().contains("saved"));
}

#[test]
fn a_game_that_hangs_is_killed_within_the_grace() {
    let place = Place::new();
    let mut running = start(&place, "trap '' TERM; echo ready; while :; do sleep 100; done");
    let asked = Instant::now();
    running.stop(Duration::from_millis(300));
    assert_eq!(running.wait_timeout(Duration::from_secs(10)), Some(Exit::Signal(9)));
    let took = asked.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_millis(900)).contains(&took), "{took:?}");
}

#[test]
fn without_grace_nobody_is_asked() {
    let place = Place::new();
    for _ in 0..20 {
        let mut running = start(&place, "echo ready; exec sleep 100");
        running.stop(Duration::ZERO);
        assert_eq!(running.wait_timeout(Duration::from_secs(10)), Some(Exit::Signal(9)));
    }
}

#[test]
fn dropping_it_kills_it() {
    let place = Place::new();
    let running = start(&place, "echo ready; sleep 100");
    let pid = running.pid();
    assert!(!groups(&place.name).is_empty());
    drop(running);
    assert!(!is_alive(pid));
    assert_eq!(groups(&place.name), Vec::<String>::new());
}

#[test]
fn a_killed_helper_takes_the_game_with_it() {
    let place = Place::new();
    let mut running = start(&place, "echo ready; sleep 100");
    let pid = running.pid();
    kill(parent_of(parent_of(pid)));
    assert_eq!(running.wait_timeout(Duration::from_secs(5)), Some(Exit::Lost));
    wait_until("the game is dead", || !is_alive(pid));
    assert_eq!(groups(&place.name), Vec::<String>::new());
}

/// Not a test of its own: what the two below start and kill.
#[test]
#[ignore = "run by the tests below as the program that is killed"]
fn launcher() {
    let Ok(name) = std::env::var("KITE_TEST_NAME") else { return };
    let mut place = Place::new();
    place.name = name;
    let running = start(&place, "echo ready; sleep 100 & sleep 100");
    println!("pid={} root={}", running.pid(), place.root.path().display());
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts the launcher; its process, the game's pid, its place.
fn launch(name: &str) -> (std::process::Child, i32, String) {
    use std::io::BufRead;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launcher", "--ignored", "--nocapture"])
        .env("KITE_TEST_NAME", name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("pid=")).expect("the launcher starts");
    let mut words = line.split(['=', ' ']).skip_while(|word| *word != "pid").skip(1);
    let pid = words.next().unwrap().parse().unwrap();
    (child, pid, words.nth(1).unwrap().to_owned())
}

#[test]
fn a_killed_launcher_leaves_nothing() {
    let name = format!("killed-{}", std::process::id());
    let (mut child, pid, root) = launch(&name);
    assert!(is_alive(pid) && !groups(&name).is_empty());
    let helper = parent_of(parent_of(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the game and its helper are dead", || !is_alive(pid) && !is_alive(helper));
    wait_until("the group is gone", || groups(&name).is_empty());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&root));
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn what_a_massacre_leaves_is_swept_up() {
    let name = format!("massacre-{}", std::process::id());
    let (mut child, pid, root) = launch(&name);
    let helper = parent_of(parent_of(pid));
    // The living are not touched.
    assert_eq!(sandbox::sweep(&name), Vec::<String>::new());
    assert!(is_alive(pid));
    kill(helper);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the game is dead", || !is_alive(pid));
    let mut swept = Vec::new();
    // The launcher may have been quicker than its own death.
    wait_until("the group is swept", || {
        swept.extend(sandbox::sweep(&name));
        groups(&name).is_empty()
    });
    assert!(swept.iter().all(|swept| *swept == name));
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&root));
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn fifty_starts_are_quick_and_leave_nothing() {
    let place = Place::new();
    let (mounts, descriptors) = (fs::read_to_string("/proc/self/mountinfo").unwrap(), open_descriptors());
    let mut times: Vec<Duration> = (0..50)
        .map(|number| {
            let mut sandbox = place.with_package(place.command(["/bin/true"]));
            sandbox.name = format!("{}-{number}", place.name);
            let began = Instant::now();
            let mut running = sandbox.start().unwrap();
            let took = began.elapsed();
            assert_eq!(running.wait_timeout(world::PATIENCE), Some(Exit::Code(0)));
            assert!(!is_alive(running.pid()));
            took
        })
        .collect();
    times.sort();
    println!("start: median {:?}, slowest {:?}", times[25], times[49]);
    assert!(times[25] < Duration::from_millis(100), "median {:?}", times[25]);
    assert_eq!(groups(&place.name), Vec::<String>::new());
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    assert!(open_descriptors() <= descriptors + 8, "{descriptors} -> {}", open_descriptors());
    assert!(Path::new(&place.path("layer/upper")).exists());
}

/// Other tests of this program open some too, meanwhile.
fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
