//! `kite up` from its start to its end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Dir, PATIENCE, kite, processes_with};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

#[test]
fn a_session_from_start_to_end_leaves_nothing() {
    let dir = Dir::new("", "exec sleep 600", "");
    let mut up = dir.up();
    assert!(up.announced.contains("games   1"), "{}", up.announced);
    let began = Instant::now();
    let (path, token) = up.create();
    // At once, before anything is ready: it waits.
    let answer = up.http("POST", &format!("{path}/whep"), Some(&token), OFFER);
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(answer.body.starts_with("answer to v=0"), "{}", answer.body);
    assert!(answer.head.contains(&format!("location: {path}/whep/")), "{}", answer.head);
    println!("from POST to answer: {} ms", began.elapsed().as_millis());
    let session = up.until_state(&path, &token, "connected");
    up.until("drawn", || up.http("GET", &path, Some(&token), "").json()["first_frame"] == true);
    println!("from POST to first frame: {} ms", began.elapsed().as_millis());

    let data = up.data.to_str().unwrap();
    let list = kite(&["session", "list", "--url", &up.url, "--data", data, "--running"]);
    let text = String::from_utf8(list.stdout).unwrap();
    let id = session["id"].as_str().unwrap();
    assert!(text.contains(id) && text.contains("connected"), "{text}");
    let end = kite(&["session", "end", id, "--url", &up.url, "--data", data]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    let session = up.until_state(&path, &token, "ended");
    assert_eq!(session["state"]["reason"], "ended_by_operator");

    // A second one is still running when the service is stopped.
    let (path, _) = up.create();
    let id = path.rsplit('/').next().unwrap().to_owned();
    assert!(!id.is_empty());
    up.until("two instances", || dir.instances().len() == 2);
    up.signal(Signal::TERM);
    assert!(up.wait().success(), "{}", up.log());
    dir.assert_nothing_left();
    for instance in dir.instances() {
        assert_eq!(processes_with(&instance), Vec::<String>::new());
    }
    let operator = std::fs::read_to_string(up.data.join("operator-token")).unwrap();
    let log = up.log();
    assert!(log.contains("instance starts"), "{log}");
    for secret in [token.as_str(), operator.trim()] {
        assert!(!log.contains(secret), "a token is in the log");
    }
}

#[test]
fn a_killed_kite_is_swept_by_the_next_one() {
    let dir = Dir::new("", "exec sleep 600", "");
    let mut up = dir.up();
    let (path, token) = up.create();
    up.until_state(&path, &token, "ready");
    up.signal(Signal::KILL);
    assert!(!up.wait().success());
    let instance = dir.instances().remove(0);
    let mut up = dir.up();
    let session = up.http("GET", &path, Some(&token), "").json();
    assert_eq!(session["state"]["reason"], "service_restarted", "{session}");
    assert_eq!(session["state"]["party"], "platform");
    dir.assert_nothing_left();
    up.until("swept", || processes_with(&instance).is_empty());
    assert_eq!(up.http("POST", "/v1/sessions", None, r#"{"app":"sleeper"}"#).status, 201);
    up.signal(Signal::INT);
    assert!(up.wait().success());
    dir.assert_nothing_left();
}

#[test]
fn a_second_signal_ends_by_force() {
    let dir = Dir::new("stubborn", "trap '' TERM; while true; do sleep 1; done", "[session]\nstop_grace_s = 60");
    let mut up = dir.up();
    let (path, token) = up.create();
    up.until_state(&path, &token, "ready");
    let instance = dir.instances().remove(0);
    up.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(130), "{}", up.log());
    assert!(began.elapsed() < PATIENCE / 2, "force took {:?}", began.elapsed());
    dir.assert_nothing_left();
    let deadline = Instant::now() + PATIENCE;
    while !processes_with(&instance).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", processes_with(&instance));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn places_are_counted() {
    let dir = Dir::new("", "exec sleep 600", "");
    let mut up = dir.up();
    for _ in 0..3 {
        up.create();
    }
    let next = up.http("POST", "/v1/sessions", None, r#"{"app":"sleeper"}"#);
    assert_eq!(next.status, 201, "{}", next.body);
    assert_eq!(next.json()["session"]["state"]["state"], "queued", "{}", next.body);
    up.signal(Signal::TERM);
    assert!(up.wait().success());
    dir.assert_nothing_left();
}

#[test]
fn what_prevents_a_start_is_said() {
    let dir = Dir::new("", "true", "");
    let mut first = dir.up();
    let listen = first.url.strip_prefix("http://").unwrap().to_owned();
    let same_port = Dir::new("", "true", "").command(&listen).output().unwrap();
    assert_eq!(same_port.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&same_port.stderr).contains("cannot listen on"));
    let same_data = dir.command("127.0.0.1:0").output().unwrap();
    assert_eq!(same_data.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&same_data.stderr).contains("in use"));
    first.signal(Signal::TERM);
    assert!(first.wait().success());
}
