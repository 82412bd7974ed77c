//! Names of keys: `KeyboardEvent.code` of the W3C UI Events specification, the part that a game can use.

/// Names of one each.
const NAMED: &[&str] = &[
    "Escape",
    "Minus",
    "Equal",
    "Backspace",
    "Tab",
    "BracketLeft",
    "BracketRight",
    "Enter",
    "ControlLeft",
    "Semicolon",
    "Quote",
    "Backquote",
    "ShiftLeft",
    "Backslash",
    "Comma",
    "Period",
    "Slash",
    "ShiftRight",
    "AltLeft",
    "Space",
    "CapsLock",
    "NumLock",
    "ScrollLock",
    "ControlRight",
    "AltRight",
    "Home",
    "ArrowUp",
    "PageUp",
    "ArrowLeft",
    "ArrowRight",
    "End",
    "ArrowDown",
    "PageDown",
    "Insert",
    "Delete",
    "Pause",
    "PrintScreen",
    "ContextMenu",
    "MetaLeft",
    "MetaRight",
    "IntlBackslash",
    "IntlRo",
    "IntlYen",
    "NumpadMultiply",
    "NumpadSubtract",
    "NumpadAdd",
    "NumpadDecimal",
    "NumpadEnter",
    "NumpadDivide",
    "NumpadEqual",
    "NumpadComma",
];

/// Every name that [`is_key_code`] accepts.
pub fn key_codes() -> impl Iterator<Item = String> {
    let letters = ('A'..='Z').map(|c| format!("Key{c}"));
    let digits = ('0'..='9').flat_map(|c| [format!("Digit{c}"), format!("Numpad{c}")]);
    let functions = (1..=24).map(|n| format!("F{n}"));
    letters.chain(digits).chain(functions).chain(NAMED.iter().map(|name| (*name).to_owned()))
}

/// Is this the name of a key?
#[must_use]
pub fn is_key_code(text: &str) -> bool {
    key_codes().any(|code| code == text)
}
