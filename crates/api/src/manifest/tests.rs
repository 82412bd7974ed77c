//! Tests of the manifest: what is accepted, what is refused with which words at which line.

use proptest::prelude::*;

use super::*;

const SMALL: &str = r#"
name = "etr"
title = "Extreme Tux Racer"

[launch]
command = ["/usr/games/etr"]
"#;

fn fault(text: &str) -> String {
    Manifest::parse(text).expect_err("was accepted").to_string()
}

/// The small manifest with one more piece at its end, and the faults that this makes.
fn check(extra: &str, expected: &[&str]) {
    let text = format!("{SMALL}{extra}");
    match Manifest::parse(&text) {
        Ok(_) => assert!(expected.is_empty(), "accepted: {extra}"),
        Err(errors) => {
            assert_eq!(errors.0.len(), expected.len(), "{errors}");
            for (error, expected) in errors.0.iter().zip(expected) {
                assert!(error.to_string().contains(expected), "`{error}` has no `{expected}`");
                assert!(!error.remedy.is_empty());
            }
        }
    }
}

#[test]
fn the_smallest_manifest_has_the_documented_defaults() {
    let manifest = Manifest::parse(SMALL).unwrap();
    assert_eq!(manifest.name.as_str(), "etr");
    assert_eq!(manifest.launch.working_directory, "<base>");
    assert_eq!(manifest.display, DisplayProtocol::X11);
    assert_eq!(manifest.spec, SpecRange::default());
    assert_eq!(manifest.limits, Limits { memory_mb: 2048, cpus: 2.0, processes: 256, disk_mb: 4096 });
    assert_eq!(manifest.session.clean_exit_codes, [0]);
    assert_eq!(manifest.input.mouse, MouseMode::Auto);
    assert!(manifest.input.keyboard);
}

#[test]
fn faults_name_line_column_and_remedy() {
    let text = SMALL.replace("\"etr\"\ntitle", "\"Etr!\"\ntitel");
    assert_eq!(
        fault(&text),
        "line 3, column 1: unknown field `titel`, expected one of `name`, `title`, `summary`, `picture`, `display`, \
         `launch`, `input`, `spec`, `saves`, `limits`, `session`. Correct its spelling or remove it; \
         docs/manifest.md lists every field."
    );
    let text = SMALL.replace("\"etr\"", "\"Etr!\"");
    assert_eq!(
        fault(&text),
        "line 2, column 8: `Etr!` is no app name: expected 1 to 40 of a-z, 0-9 and `-`, with a letter or digit at both \
         ends. Choose a short name such as \"chocolate-doom\"."
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    check(
        "environment = { HOME = \"/\", \"1x\" = \"<nope>\" }\nworking_directory = \"rel\"\n[limits]\ncpus = 0\nmemory_mb = 1\n",
        &[
            "`HOME` is set by Kite",
            "`1x` is no name",
            "`<nope>` in",
            "`rel` is no absolute",
            "`limits.cpus` is 0",
            "`limits.memory_mb` is 1",
        ],
    );
}

#[test]
fn values_are_checked() {
    check("home = \"../etc\"", &["`launch.home` is no path inside"]);
    check("working_directory = \"<home>/x\"", &[]);
    check(
        "[saves]\npaths = [\"<home>/.doom/*\", \"/etc/passwd\", \"<home>/../x\", \"<width>\"]",
        &["/etc", "..", "<width>"],
    );
    check("[limits]\ncpus = nan", &["`limits.cpus` is NaN"]);
    check("[limits]\nmemory_mb = -1", &["invalid value"]);
    check("display = \"vga\"", &["unknown field `display`"]);
    check("[session]\nclean_exit_codes = []", &["has 0 entries"]);
    check("[input]\ngamepads = 5", &["`input.gamepads` is 5"]);
    check("[input.keys]\nKeyW = \"ArrowUpp\"", &["`ArrowUpp` is no key"]);
    check("[spec]\nmax = { width = 800, height = 600, frames_per_second = 30 }", &[]);
    check(
        "[spec]\nmax = { width = 801, height = 600, frames_per_second = 0 }",
        &["`width`", "frames", "`spec.min` is larger"],
    );
    check(
        "[spec]\ndefault = { width = 4000, height = 600, frames_per_second = 30 }",
        &["`spec.default`: width is 4000"],
    );
    check("[spec]\nclass = \"gpu\"", &[]);
    check("[spec]\nclass = \"GPU 4090\"", &["`spec.class` is no name"]);
    check("oops", &["line 7"]);
}

#[test]
fn touch_controls_are_checked() {
    let control =
        |body: &str| format!("[input]\ngamepads = 1\n[input.touch]\nmode = \"pad\"\ncontrols = [{{ {body} }}]");
    check(&control("kind = \"button\", label = \"Fire\", x = 0.9, y = 0.8, key = \"ControlLeft\""), &[]);
    check(&control("kind = \"button\", label = \"Fire\", x = 0.9, y = 0.8"), &["needs one of `key`"]);
    check(&control("kind = \"button\", label = \"A\", x = 2.0, y = 0.8, pad = 17"), &["`x` is 2", "`pad` is 17"]);
    check(&control("kind = \"stick\", label = \"Move\", x = 0.1, y = 0.8, stick = \"left\""), &[]);
    check(&control("kind = \"stick\", label = \"Move\", x = 0.1, y = 0.8, keys = [\"KeyW\"]"), &["has 1 entries"]);
    check(&control("kind = \"stick\", x = 0.1, stick = \"left\""), &["without `label`", "without `x` and `y`"]);
    check(&control("kind = \"look\", speed = 2.0"), &[]);
    check(&control("kind = \"look\", label = \"x\""), &["has no `label`"]);
    check("[input.touch]\ncontrols = [{ kind = \"look\" }]", &["without `mode"]);
    check(
        "[input.touch]\nmode = \"pad\"\ncontrols = [{ kind = \"stick\", label = \"x\", x = 0.1, y = 0.1, stick = \"left\" }]",
        &["gamepads` is 0"],
    );
}

#[test]
fn a_manifest_round_trips_through_the_node_contract() {
    let manifest = Manifest::parse(&format!(
        "{SMALL}[input]\ngamepads=1\n[input.touch]\nmode=\"pad\"\ncontrols=[{{kind=\"look\"}}]"
    ))
    .unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn an_oversized_text_is_refused_unread() {
    let text = format!("{SMALL}# {}", "x".repeat(MAX_MANIFEST_BYTES));
    assert!(fault(&text).contains("a manifest has at most 65536"));
}

#[test]
fn deep_nesting_is_refused() {
    assert!(fault(&format!("a = {}", "[".repeat(60_000))).contains("line 1"));
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused_with_a_place_inside_of_it(text in "\\PC{0,400}") {
        if let Err(errors) = Manifest::parse(&text) {
            prop_assert!(!errors.0.is_empty());
            for error in &errors.0 {
                prop_assert!(error.line <= text.lines().count().max(1) + 1);
            }
        }
    }

    /// Near-manifests: lines of a good one, shuffled, cut, doubled.
    #[test]
    fn any_mixture_of_good_lines_is_taken_or_refused(
        picks in proptest::collection::vec((0usize..24, 0usize..60), 0..40)
    ) {
        let lines: Vec<&str> = include_str!("tests/full.toml").lines().collect();
        let text: String = picks
            .iter()
            .map(|(pick, cut)| {
                let line = lines[pick % lines.len()];
                let end = line.char_indices().map(|(at, _)| at).nth(*cut).unwrap_or(line.len());
                format!("{}\n", &line[..end])
            })
            .collect();
        if let Err(errors) = Manifest::parse(&text) {
            prop_assert!(!errors.0.is_empty());
        }
    }

    #[test]
    fn app_names_are_what_the_rule_says(text in "\\PC{0,50}") {
        let rule = text.len() <= 40
            && !text.is_empty()
            && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
            && !text.starts_with('-') && !text.ends_with('-');
        prop_assert_eq!(AppName::try_from(text).is_ok(), rule);
    }
}

#[test]
fn a_manifest_with_every_field_is_taken() {
    let manifest = Manifest::parse(include_str!("tests/full.toml")).unwrap();
    assert_eq!(manifest.input.touch.controls.len(), 4);
    assert_eq!(manifest.launch.home.unwrap().as_str(), "home");
}

#[test]
fn the_manuals_examples_are_good_and_the_second_names_every_field() {
    let manual = include_str!("../../../../docs/manifest.md");
    let examples: Vec<&str> = manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    for example in &examples {
        Manifest::parse(example).unwrap();
    }
    // Every key of the manifest's own JSON is in the manual's example.
    let full = serde_json::to_value(Manifest::parse(examples[1]).unwrap()).unwrap();
    let mut keys = Vec::new();
    collect_keys(&full, &mut keys);
    // Written differently in TOML: places and bindings of controls.
    for key in keys.iter().filter(|key| !["place", "send", "up", "left", "down", "right"].contains(&key.as_str())) {
        assert!(examples[1].contains(key.as_str()), "`{key}` is not in the manual's example");
    }
}

fn collect_keys(value: &serde_json::Value, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                keys.push(key.clone());
                collect_keys(value, keys);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect_keys(value, keys)),
        _ => {}
    }
}
