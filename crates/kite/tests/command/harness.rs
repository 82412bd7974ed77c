//! A `kite up` in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Longer than anything here takes on a machine under full load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Dir {
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) struct Up {
    child: Child,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    pub(crate) announced: String,
    log: PathBuf,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(crate) fn kite(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kite")).args(args).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_kite")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build -p node -p sandbox", path.display());
    path
}

/// Starts a program that writes its log into this directory, and waits until it has said a line with this word.
pub(crate) fn spawn(mut command: Command, dir: &Path, ready: &str) -> Up {
    let log = dir.join("log");
    let stderr = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut announced = String::new();
    loop {
        let Some(line) = lines.next() else {
            panic!("kite said nothing: {}", fs::read_to_string(&log).unwrap());
        };
        let line = line.unwrap();
        announced.push_str(&line);
        announced.push('\n');
        if line.contains(ready) {
            break;
        }
    }
    // The rest is read, so that the program never waits for it.
    std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
    let url = announced.find("http://").map_or("", |start| announced[start..].lines().next().unwrap().trim());
    Up { child, url: url.to_owned(), data: dir.to_owned(), announced, log }
}

/// A GET to another door than the API's.
pub(crate) fn get(at: SocketAddr, path: &str, token: Option<&str>) -> Answer {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    ask(&at.to_string(), &format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{authorization}\r\n"))
}

fn ask(host: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

impl Dir {
    /// A directory with one package whose game runs this script.
    pub(crate) fn new(behaviour: &str, script: &str, extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let package = dir.path().join("games/sleeper");
        fs::create_dir_all(&package).unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/behaviour"), behaviour).unwrap();
        let command = serde_json::to_string(&["/bin/sh", "-c", script]).unwrap();
        let manifest = format!("name = \"sleeper\"\ntitle = \"Sleeper\"\n[launch]\ncommand = {command}\n{extra}\n");
        fs::write(package.join("kite.toml"), manifest).unwrap();
        Self { dir }
    }

    pub(crate) fn command(&self, listen: &str) -> Command {
        built("kite-sandbox");
        let path = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
        command.arg("up").args(["--listen", listen, "--sessions", "3"]);
        command.arg("--data").arg(path("data")).arg("--games").arg(path("games")).arg("--runtime").arg(path("run"));
        command.arg("--streamer").arg(built("contract-streamer"));
        command.env("KITE_LOG", "trace").stdin(Stdio::null());
        command
    }

    pub(crate) fn up(&self) -> Up {
        self.up_with(|_| ())
    }

    pub(crate) fn up_with(&self, change: impl FnOnce(&mut Command)) -> Up {
        let mut command = self.command("127.0.0.1:0");
        change(&mut command);
        let mut up = spawn(command, self.dir.path(), "stop");
        up.data = self.dir.path().join("data");
        up.until("healthy", || up.http("GET", "/healthz", None, "").json()["status"] == "ok");
        up
    }

    /// Nothing of any instance is left, but logs.
    pub(crate) fn assert_nothing_left(&self) {
        for place in ["run", "data/instances"] {
            let left: Vec<_> = fs::read_dir(self.dir.path().join(place))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("ins_"))
                .collect();
            assert_eq!(left, Vec::<String>::new(), "left in {place}");
        }
    }

    /// Ids of all instances that there were: their logs stay.
    pub(crate) fn instances(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("data/logs")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // Beside them lies the log of the node's echo.
        names.filter(|name| name.starts_with("ins_")).collect()
    }
}

/// Command lines of processes whose environment or arguments hold the word.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let text = [read("environ"), read("cmdline")].concat();
        if text.windows(word.len()).any(|window| window == word.as_bytes()) {
            found.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
        }
    }
    found
}

impl Up {
    pub(crate) fn http(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        self.http_with(method, path, token, "", body)
    }

    /// With more headers, whole lines.
    pub(crate) fn http_with(&self, method: &str, path: &str, token: Option<&str>, headers: &str, body: &str) -> Answer {
        let host = self.url.strip_prefix("http://").unwrap();
        let kind = if body.starts_with("v=0") { "application/sdp" } else { "application/json" };
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             {authorization}{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        ask(host, &request)
    }

    pub(crate) fn until(&self, what: &str, mut good: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !good() {
            assert!(Instant::now() < deadline, "never {what}; log: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A new session's path and token.
    pub(crate) fn create(&self) -> (String, String) {
        let answer = self.http("POST", "/v1/sessions", None, r#"{"app":"sleeper"}"#);
        assert_eq!(answer.status, 201, "{}", answer.body);
        let created = answer.json();
        let id = created["session"]["id"].as_str().unwrap();
        (format!("/v1/sessions/{id}"), created["token"].as_str().unwrap().to_owned())
    }

    pub(crate) fn until_state(&self, path: &str, token: &str, state: &str) -> Value {
        let mut session = Value::Null;
        self.until(state, || {
            session = self.http("GET", path, Some(token), "").json();
            session["state"]["state"] == state
        });
        session
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "kite up does not end; log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // After a failed test; a good one has waited for the end.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
