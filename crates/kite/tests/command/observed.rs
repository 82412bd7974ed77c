//! What programs tell of themselves, as those hear it who listen: a scrape, a real Prometheus, a receiver of OTLP.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Dir, PATIENCE, Up, get, kite, spawn};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where the program that writes this log serves its metrics.
fn metrics_address(log: &Path) -> SocketAddr {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut said = lines.filter(|line| line["fields"]["message"] == "metrics are served");
        if let Some(line) = said.next() {
            return line["fields"]["address"].as_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "no metrics are served: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The families of a scrape: type, help, and the labels that were seen.
#[derive(Clone, Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn families(scrape: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut counters = BTreeSet::new();
    for line in scrape.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.trim_end_matches('.').to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            if kind == "counter" || kind == "info" {
                counters.insert(name.to_owned());
            }
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let of_family = ["_bucket", "_sum", "_count", "_total", "_info", ""];
            let family =
                of_family.iter().find_map(|end| name.strip_suffix(end).filter(|name| families.contains_key(*name)));
            let family = families.get_mut(family.unwrap_or_else(|| panic!("{line} has no family"))).unwrap();
            let labels =
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            family.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    // As they are written in queries.
    let end = |name: &str, kind: &str| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    };
    families.into_iter().map(|(name, family)| (end(&name, &family.kind), family)).collect()
}

/// A fleet of one node, with a session that is played.
struct Fleet {
    control: Up,
    node: Up,
    dir: Dir,
    at: [SocketAddr; 2],
}

impl Fleet {
    fn start() -> Self {
        let dir = Dir::new("", "exec sleep 600", "");
        let path = |name: &str| dir.dir.path().join(name).display().to_string();
        for name in ["control", "data"] {
            let config = format!("[store]\ndir = \"{}\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n", path("content"));
            fs::create_dir(path(name)).unwrap();
            fs::write(dir.dir.path().join(name).join("config.toml"), config).unwrap();
        }
        let program = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
            command.args(args).env("KITE_LOG", "info").env("KITE_LOG_FORMAT", "json").stdin(Stdio::null());
            command
        };
        let (data, games) = (path("control"), path("games"));
        let listen =
            ["control", "--listen", "127.0.0.1:0", "--nodes", "127.0.0.1:0", "--data", &data, "--games", &games];
        let control = spawn(program(&listen), Path::new(&data), "stop");
        let line = control.announced.lines().find_map(|line| line.trim().strip_prefix("nodes ")).unwrap();
        let nodes = line.trim().split(": ").next().unwrap().to_owned();
        let token = kite(&["fleet", "token", "--site", "paris", "--url", &control.url, "--data", &data]);
        assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
        let token = String::from_utf8(token.stdout).unwrap();
        let (node_data, run) = (path("data"), path("run"));
        let mut joining = program(&["node", "--control", &nodes, "--join", token.trim(), "--data", &node_data]);
        joining.args(["--runtime", &run, "--advertise", "127.0.0.1", "--sessions", "3", "--streamer"]);
        joining.arg(crate::harness::built("contract-streamer"));
        let node = spawn(joining, Path::new(&node_data), "is ready");
        let at = [metrics_address(control.log_path()), metrics_address(node.log_path())];
        control.until("a node", || control.http("GET", "/healthz", None, "").json()["status"] == "ok");
        let fleet = Self { control, node, dir, at };
        fleet.play();
        fleet
    }

    fn play(&self) {
        let (path, token) = self.control.create();
        let answer = self.control.http("POST", &format!("{path}/whep"), Some(&token), OFFER);
        assert_eq!(answer.status, 201, "{}", answer.body);
        self.control.until_state(&path, &token, "connected");
        // The sessions are counted once in a second.
        self.control.until("counted", || self.scrape().contains("kite_sessions{site=\"paris\",state=\"connected\"} 1"));
    }

    fn scrape(&self) -> String {
        self.at.iter().map(|at| get(*at, "/metrics", None).body).collect()
    }

    fn stop(mut self) {
        for program in [&mut self.node, &mut self.control] {
            program.signal(Signal::TERM);
            assert!(program.wait().success(), "{}", program.log());
        }
        self.dir.assert_nothing_left();
    }
}

/// The names of metrics in a text of queries.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("kite_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn queries(dashboard: &Value, into: &mut Vec<String>) {
    match dashboard {
        Value::Object(fields) => {
            into.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| queries(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The dashboard's queries, with its variables as they are by default.
fn dashboard_queries() -> Vec<String> {
    let text = fs::read_to_string(root().join("deploy/grafana/kite.json")).unwrap();
    let mut all = Vec::new();
    queries(&serde_json::from_str(&text).unwrap(), &mut all);
    assert!(all.len() > 20, "{all:?}");
    all.iter().map(|query| query.replace("$__rate_interval", "5m").replace("$site", ".*")).collect()
}

fn table(families: &BTreeMap<String, Family>) -> String {
    let mut table = "| metric | type | labels | what |\n|---|---|---|---|\n".to_owned();
    for (name, Family { kind, help, labels }) in families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    table
}

/// The table of metrics in the operator's manual is that of a real fleet's scrape (stale: `UPDATE=1` writes it), and every metric that the
/// dashboard and the alerts name is there.
#[test]
fn manual_dashboard_and_alerts_are_not_stale() {
    let fleet = Fleet::start();
    let scrape = fleet.scrape();
    let families = families(&scrape);
    fleet.stop();

    let mut samples: BTreeSet<String> = families.keys().cloned().collect();
    for (name, _) in families.iter().filter(|(_, family)| family.kind == "histogram") {
        samples.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
    }
    let alerts = fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    for text in dashboard_queries().iter().map(String::as_str).chain([alerts.as_str()]) {
        let missing: Vec<String> = names_in(text).difference(&samples).cloned().collect();
        assert!(missing.is_empty(), "no program serves {missing:?}, which this asks for: {text}");
    }

    let manual = root().join("docs/operator.md");
    let text = fs::read_to_string(&manual).unwrap();
    let (begin, end) = ("<!-- metrics, from a scrape -->\n", "<!-- end of metrics -->");
    let (head, rest) = text.split_once(begin).expect("the manual has the table's beginning");
    let (old, tail) = rest.split_once(end).expect("the manual has the table's end");
    let new = table(&families);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&manual, format!("{head}{begin}{new}{end}{tail}")).unwrap();
    } else {
        assert_eq!(old, new, "docs/operator.md is stale: ./x generate");
    }
}

/// A program that a test needs and a machine may lack: such a test is skipped there. `./x test` installs it.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn promtool_takes_the_rules_and_the_example() {
    if !installed("promtool") {
        return;
    }
    for (check, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let path = root().join("deploy/prometheus").join(file);
        let checked = Command::new("promtool").arg("check").arg(check).arg(path).output().unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

/// Prometheus itself fetches from a fleet, evaluates the alerts, and answers every query of the dashboard.
#[test]
fn a_real_prometheus_understands_it() {
    if !installed("prometheus") {
        return;
    }
    let fleet = Fleet::start();
    let dir = tempfile::tempdir().unwrap();
    let rules = fs::canonicalize(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let [control, node] = fleet.at;
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n\
         - {{job_name: kite, static_configs: [{{targets: ['{control}', '{node}']}}]}}\n",
        rules.display()
    );
    fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        .arg(format!("--web.listen-address={port}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let ask = |path: String| {
        TcpStream::connect(port).ok()?;
        let answer = get(port, &path, None);
        Some((answer.status, answer.body))
    };
    let result = std::panic::catch_unwind(|| {
        let query = |query: &str| ask(format!("/api/v1/query?query={}", escaped(query)));
        fleet.control.until("scraped", || {
            query("sum(up)").is_some_and(|(_, body)| body.contains("\"2\"]"))
                && query("kite_sessions").is_some_and(|(_, body)| body.contains("paris"))
        });
        for text in dashboard_queries() {
            let (status, body) = query(&text).unwrap();
            assert_eq!(status, 200, "{text}: {body}");
        }
        fleet.control.until("rules", || ask("/api/v1/rules".to_owned()).unwrap().1.contains("\"health\":\"ok\""));
        let (_, rules) = ask("/api/v1/rules".to_owned()).unwrap();
        assert!(!rules.contains("\"health\":\"err\""), "{rules}");
        let (_, firing) = ask("/api/v1/alerts".to_owned()).unwrap();
        assert!(!firing.contains("firing"), "a fleet that is well fires nothing: {firing}");
    });
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    if let Err(panic) = result {
        println!("{}", fs::read_to_string(dir.path().join("log")).unwrap());
        std::panic::resume_unwind(panic);
    }
    fleet.stop();
}

fn escaped(query: &str) -> String {
    query.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

#[test]
fn metrics_want_their_token() {
    let dir = Dir::new("", "true", "");
    fs::create_dir(dir.dir.path().join("data")).unwrap();
    fs::write(dir.dir.path().join("data/token"), "only Prometheus\n").unwrap();
    let config = "[metrics]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n";
    fs::write(dir.dir.path().join("data/config.toml"), config).unwrap();
    let mut up = dir.up_with(|command| {
        command.env("KITE_LOG_FORMAT", "json");
    });
    let at = metrics_address(up.log_path());
    assert_eq!(get(at, "/metrics", None).status, 401);
    assert_eq!(get(at, "/metrics", Some("only")).status, 401);
    let scrape = get(at, "/metrics", Some("only Prometheus"));
    assert_eq!(scrape.status, 200);
    assert!(scrape.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", scrape.head);
    assert!(scrape.body.ends_with("# EOF\n"));
    for of in ["kite_nodes{", "kite_instances{", "process_cpu_seconds_total", "kite_build_info{version="] {
        assert!(scrape.body.contains(of), "{of} is missing: {}", scrape.body);
    }
    assert_eq!(up.http("GET", "/metrics", Some("only Prometheus"), "").status, 404, "not where players are");
    up.signal(Signal::TERM);
    assert!(up.wait().success());
}

/// An OpenTelemetry collector's door: what comes as OTLP over HTTP, decoded by OpenTelemetry's own types.
fn receiver() -> (SocketAddr, Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (requests, received) = sync_channel(100);
    std::thread::Builder::new()
        .spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                while let Some(body) = post(&mut reader) {
                    requests.send(ExportTraceServiceRequest::decode(&*body).unwrap()).unwrap();
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    reader.get_mut().write_all(answer).unwrap();
                }
            }
        })
        .unwrap();
    (at, received)
}

fn post(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// One trace of a play, from the client's header over control plane and node to what the streamer said, in a real collector's format.
#[test]
fn a_play_is_one_trace() {
    let (at, received) = receiver();
    let dir = Dir::new("", "exec sleep 600", "");
    let mut up = dir.up_with(|command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{at}")).env("KITE_LOG_FORMAT", "json");
    });
    let (trace, client) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa05a902b7");
    let header = format!("traceparent: 00-{trace}-{client}-01\r\n");
    let created = up.http_with("POST", "/v1/sessions", None, &header, r#"{"app":"sleeper"}"#).json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    let path = format!("/v1/sessions/{id}");
    up.http("POST", &format!("{path}/whep"), Some(token), OFFER);
    up.until_state(&path, token, "connected");

    let wanted = [
        "session.start",
        "session.place",
        "session.prepare",
        "session.connect",
        "node.start",
        "node.place",
        "node.streamer",
        "node.game",
        "streamer.first_frame",
        "streamer.connected",
    ];
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    let mut services = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while !wanted.iter().all(|name| spans.contains_key(*name)) {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = received.recv_timeout(left).unwrap_or_else(|_| panic!("only {:?}: {}", spans.keys(), up.log()));
        for resource in request.resource_spans {
            services.insert(format!("{:?}", resource.resource.unwrap().attributes));
            let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| (span.name.clone(), span)));
        }
    }
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(spans.len(), wanted.len(), "{:?}", spans.keys());
    for span in spans.values() {
        assert_eq!(hex(&span.trace_id), trace, "{}", span.name);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{}", span.name);
    }
    let parent = |name: &str| hex(&spans[name].parent_span_id);
    let own = |name: &str| hex(&spans[name].span_id);
    assert_eq!(parent("session.start"), client);
    for part in ["session.place", "session.prepare", "session.connect", "node.start"] {
        assert_eq!(parent(part), own("session.start"), "{part}");
    }
    for part in ["node.place", "node.streamer", "node.game", "streamer.first_frame", "streamer.connected"] {
        assert_eq!(parent(part), own("node.start"), "{part}");
    }
    assert!(services.iter().all(|service| service.contains("service.name")), "{services:?}");

    // The same trace stands in the log.
    let log = up.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for message in ["session created", "instance starts"] {
        let line = lines.iter().find(|line| line["fields"]["message"] == message).unwrap();
        assert_eq!(line["fields"]["trace"], trace, "{line}");
    }
    up.signal(Signal::TERM);
    assert!(up.wait().success(), "{}", up.log());
}

#[test]
fn a_collector_that_is_not_there_changes_nothing() {
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = Dir::new("", "exec sleep 600", "");
    let mut up = dir.up_with(|command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{at}"));
    });
    let (path, token) = up.create();
    up.until_state(&path, &token, "ready");
    up.until("said once", || up.log().contains("traces cannot be exported"));
    let began = Instant::now();
    up.signal(Signal::TERM);
    assert!(up.wait().success(), "{}", up.log());
    assert!(began.elapsed() < PATIENCE / 2, "the end took {:?}", began.elapsed());
    dir.assert_nothing_left();
}
