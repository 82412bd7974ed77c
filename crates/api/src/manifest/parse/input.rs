//! The `[input]` table of a manifest.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::Checker;
use crate::manifest::{
    ButtonBinding, InputProfile, MouseButton, MouseMode, PadStick, StickBinding, Touch, TouchControl, TouchMode,
    TouchPlace, is_key_code,
};

/// Most controls over a picture. More cover the game on any phone.
const MAX_CONTROLS: usize = 24;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInput {
    keyboard: Option<bool>,
    #[serde(default)]
    mouse: MouseMode,
    gamepads: Option<Spanned<u8>>,
    #[serde(default)]
    keys: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    touch: RawTouch,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTouch {
    #[serde(default)]
    mode: TouchMode,
    #[serde(default)]
    controls: Vec<Spanned<RawControl>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Stick,
    Button,
    Look,
}

/// One table for all kinds: which fields belong to which kind is checked below, with better words than serde's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawControl {
    kind: Kind,
    label: Option<Spanned<String>>,
    x: Option<Spanned<f32>>,
    y: Option<Spanned<f32>>,
    size: Option<Spanned<f32>>,
    keys: Option<Spanned<Vec<Spanned<String>>>>,
    stick: Option<PadStick>,
    key: Option<Spanned<String>>,
    mouse: Option<MouseButton>,
    pad: Option<Spanned<u8>>,
    speed: Option<Spanned<f32>>,
}

pub(super) fn check(checker: &mut Checker<'_>, raw: RawInput) -> InputProfile {
    let gamepads = checker.number("input.gamepads", raw.gamepads, 0..=4, 0);
    let mut keys = BTreeMap::new();
    for (from, to) in &raw.keys {
        for code in [from, to] {
            key(checker, code);
        }
        keys.insert(from.get_ref().clone(), to.get_ref().clone());
    }
    let touch = check_touch(checker, raw.touch, gamepads);
    InputProfile { keyboard: raw.keyboard.unwrap_or(true), mouse: raw.mouse, gamepads, keys, touch }
}

fn key(checker: &mut Checker<'_>, code: &Spanned<String>) -> String {
    if !is_key_code(code.get_ref()) {
        checker.fault(
            code.span(),
            format!("`{}` is no key", code.get_ref()),
            "Use a KeyboardEvent.code such as KeyW, Digit1, ArrowUp, Space, ControlLeft.",
        );
    }
    code.get_ref().clone()
}

fn check_touch(checker: &mut Checker<'_>, raw: RawTouch, gamepads: u8) -> Touch {
    if let Some(first) = raw.controls.first() {
        if raw.mode != TouchMode::Pad {
            checker.fault(first.span(), "touch controls without `mode = \"pad\"`", "Set the mode, or remove them.");
        }
        if raw.controls.len() > MAX_CONTROLS {
            checker.fault(
                first.span(),
                format!("{} touch controls", raw.controls.len()),
                format!("Keep at most {MAX_CONTROLS}."),
            );
        }
        let looks = raw.controls.iter().filter(|control| control.get_ref().kind == Kind::Look).count();
        if looks > 1 {
            checker.fault(first.span(), format!("{looks} controls of kind `look`"), "Keep one.");
        }
    }
    let controls = raw.controls.into_iter().filter_map(|control| check_control(checker, control, gamepads)).collect();
    Touch { mode: raw.mode, controls }
}

fn check_control(checker: &mut Checker<'_>, raw: Spanned<RawControl>, gamepads: u8) -> Option<TouchControl> {
    let span = raw.span();
    let raw = raw.into_inner();
    let pad_used = raw.stick.is_some() || raw.pad.is_some();
    if pad_used && gamepads == 0 {
        checker.fault(span.clone(), "a control of a gamepad, but `input.gamepads` is 0", "Set input.gamepads = 1.");
    }
    match raw.kind {
        Kind::Stick => {
            refuse(
                checker,
                &span,
                "stick",
                &[
                    ("key", raw.key.is_some()),
                    ("mouse", raw.mouse.is_some()),
                    ("pad", raw.pad.is_some()),
                    ("speed", raw.speed.is_some()),
                ],
            );
            let send = stick_binding(checker, &span, raw.keys, raw.stick);
            let label = label(checker, &span, raw.label);
            let place = place(checker, &span, raw.x, raw.y, raw.size);
            Some(TouchControl::Stick { label, place, send: send? })
        }
        Kind::Button => {
            refuse(
                checker,
                &span,
                "button",
                &[("keys", raw.keys.is_some()), ("stick", raw.stick.is_some()), ("speed", raw.speed.is_some())],
            );
            let send = button_binding(checker, &span, raw.key, raw.mouse, raw.pad);
            let label = label(checker, &span, raw.label);
            let place = place(checker, &span, raw.x, raw.y, raw.size);
            Some(TouchControl::Button { label, place, send: send? })
        }
        Kind::Look => {
            refuse(
                checker,
                &span,
                "look",
                &[
                    ("label", raw.label.is_some()),
                    ("x", raw.x.is_some()),
                    ("y", raw.y.is_some()),
                    ("size", raw.size.is_some()),
                    ("keys", raw.keys.is_some()),
                    ("stick", raw.stick.is_some()),
                    ("key", raw.key.is_some()),
                    ("mouse", raw.mouse.is_some()),
                    ("pad", raw.pad.is_some()),
                ],
            );
            Some(TouchControl::Look { speed: checker.number("speed", raw.speed, 0.1..=10.0, 1.5) })
        }
    }
}

fn refuse(checker: &mut Checker<'_>, span: &Range<usize>, kind: &str, fields: &[(&str, bool)]) {
    for (field, present) in fields {
        if *present {
            checker.fault(span.clone(), format!("a control of kind `{kind}` has no `{field}`"), "Remove it.");
        }
    }
}

fn label(checker: &mut Checker<'_>, span: &Range<usize>, label: Option<Spanned<String>>) -> String {
    match label {
        Some(label) => checker.words("label", &label, 20),
        None => {
            checker.fault(span.clone(), "a control without `label`", "Say what it does, for screen readers too.");
            String::new()
        }
    }
}

fn place(
    checker: &mut Checker<'_>,
    span: &Range<usize>,
    x: Option<Spanned<f32>>,
    y: Option<Spanned<f32>>,
    size: Option<Spanned<f32>>,
) -> TouchPlace {
    if x.is_none() || y.is_none() {
        checker.fault(
            span.clone(),
            "a control without `x` and `y`",
            "Give both as fractions, for example 0.15 and 0.7.",
        );
    }
    TouchPlace {
        x: checker.number("x", x, 0.0..=1.0, 0.5),
        y: checker.number("y", y, 0.0..=1.0, 0.5),
        size: checker.number("size", size, 0.05..=0.6, 0.14),
    }
}

fn stick_binding(
    checker: &mut Checker<'_>,
    span: &Range<usize>,
    keys: Option<Spanned<Vec<Spanned<String>>>>,
    stick: Option<PadStick>,
) -> Option<StickBinding> {
    match (keys, stick) {
        (None, Some(stick)) => Some(StickBinding::Pad(stick)),
        (Some(keys), None) => {
            let span = keys.span();
            let codes: Vec<String> = keys.into_inner().iter().map(|code| key(checker, code)).collect();
            let [up, left, down, right] = <[String; 4]>::try_from(codes)
                .map_err(|codes| {
                    let message = format!("`keys` of a stick has {} entries", codes.len());
                    checker.fault(span, message, "Give four: up, left, down, right.");
                })
                .ok()?;
            Some(StickBinding::Keys { up, left, down, right })
        }
        (None, None) | (Some(_), Some(_)) => {
            checker.fault(span.clone(), "a stick needs either `keys` or `stick`", "Give one of the two.");
            None
        }
    }
}

fn button_binding(
    checker: &mut Checker<'_>,
    span: &Range<usize>,
    code: Option<Spanned<String>>,
    mouse: Option<MouseButton>,
    pad: Option<Spanned<u8>>,
) -> Option<ButtonBinding> {
    match (code, mouse, pad) {
        (Some(code), None, None) => Some(ButtonBinding::Key(key(checker, &code))),
        (None, Some(button), None) => Some(ButtonBinding::Mouse(button)),
        (None, None, Some(number)) => Some(ButtonBinding::Pad(checker.number("pad", Some(number), 0..=16, 0))),
        _ => {
            checker.fault(span.clone(), "a button needs one of `key`, `mouse` and `pad`", "Give exactly one.");
            None
        }
    }
}
