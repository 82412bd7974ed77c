//! What needs no server.

use std::fs;

use crate::harness::kite;

#[test]
fn packages_are_checked_with_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fs::write(dir.path().join("kite.toml"), "name = \"a\"\ntitle = \"A\"\n[launch]\ncommand = [\"/bin/sh\"]\n")
        .unwrap();
    let good = kite(&["app", "check", path]);
    assert!(good.status.success());
    assert!(String::from_utf8_lossy(&good.stdout).contains("can be played"));
    fs::write(dir.path().join("kite.toml"), "name = \"a\"\ntitel = \"A\"\n").unwrap();
    let bad = kite(&["app", "check", path]);
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert!(text.contains("line 2, column 1: unknown field `titel`"), "{text}");
}

#[test]
fn a_bad_configuration_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, "listen = \"127.0.0.1:0\"\nguests = true\n").unwrap();
    let up = kite(&["up", "--config", path.to_str().unwrap()]);
    assert_eq!(up.status.code(), Some(1));
    let text = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(text.contains("config.toml is not usable") && text.contains("line 2"), "{text}");
}

#[test]
fn a_database_is_brought_up_to_date_without_serving() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let out = kite(&["control", "--data", data.to_str().unwrap(), "migrate"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stdout).contains("up to date") && data.join("control.db").is_file());
}

#[test]
fn replicas_without_what_they_share_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let out = kite(&["control", "--data", data, "--nodes", "127.0.0.1:0", "--replica", "127.0.0.1:1"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.contains("PostgreSQL"), "{text}");
}

#[test]
fn the_openapi_document_is_printed() {
    let printed = kite(&["openapi"]);
    let document: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert!(document["paths"]["/v1/sessions"]["post"].is_object());
}

#[test]
fn the_doctor_looks_at_everything() {
    let dir = tempfile::tempdir().unwrap();
    let out = kite(&["doctor", "--data", dir.path().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for what in [
        "kite-streamer",
        "kite-echo",
        "kite-sandbox",
        "Xwayland",
        "/dev/fuse",
        "control groups",
        "real-time",
        "MiB free",
        "media ports",
    ] {
        assert!(text.contains(what), "nothing about {what}: {text}");
    }
    assert_eq!(out.status.success(), !text.contains("missing  "), "{text}");
}

#[test]
fn a_session_command_without_a_server_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let no_token = kite(&["session", "list", "--url", "http://127.0.0.1:9", "--data", data]);
    assert!(String::from_utf8_lossy(&no_token.stderr).contains("--data"));
    fs::write(dir.path().join("operator-token"), "kop_x").unwrap();
    let no_server = kite(&["session", "list", "--url", "http://127.0.0.1:9", "--data", data]);
    assert!(String::from_utf8_lossy(&no_server.stderr).contains("does not answer"));
}
