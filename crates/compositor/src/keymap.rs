//! Text as key presses: what a US keyboard can write by its keys, the rest by spare keys that are remapped.
//!
//! Pure. Deliberately absent: keyboards.

use std::fmt::Write as _;

/// evdev codes of keys that no keyboard has and that the `evdev` XKB keycodes name `I249` to `I254`.
const SPARE_CODES: [u16; 6] = [241, 242, 243, 244, 245, 246];

/// X11 keycodes are evdev codes plus this.
pub(crate) const X11_OFFSET: u32 = 8;

/// evdev code of the left shift key.
pub(crate) const KEY_LEFTSHIFT: u16 = 42;

/// One step of writing a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the spare keys write these characters, in the order of [`spare_codes`].
    Remap(Vec<char>),
    /// Press and release this evdev code.
    Press {
        /// The key.
        code: u16,
        /// While shift is down.
        shift: bool,
    },
}

/// Codes of the spare keys.
pub(crate) fn spare_codes() -> impl Iterator<Item = u16> {
    SPARE_CODES.into_iter()
}

/// The steps that write `text`. Control characters other than newline, tab and backspace are left out.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut mapped: Vec<char> = Vec::new();
    let mut remap_at = 0;
    for character in text.chars() {
        if let Some((code, shift)) = us_key(character) {
            steps.push(Step::Press { code, shift });
        } else if !character.is_control() {
            let spare = mapped.iter().position(|known| *known == character).unwrap_or_else(|| {
                if mapped.is_empty() || mapped.len() == SPARE_CODES.len() {
                    mapped.clear();
                    remap_at = steps.len();
                    steps.push(Step::Remap(Vec::new()));
                }
                mapped.push(character);
                steps[remap_at] = Step::Remap(mapped.clone());
                mapped.len() - 1
            });
            steps.push(Step::Press { code: SPARE_CODES[spare], shift: false });
        }
    }
    steps
}

/// A US keymap in XKB text format whose spare keys write `characters`.
pub(crate) fn keymap_text(characters: &[char]) -> String {
    let mut keys = String::new();
    for (code, character) in SPARE_CODES.iter().zip(characters) {
        // Writing to a string cannot fail.
        write!(keys, " key <I{}> {{ [ U{:04X} ] }};", u32::from(*code) + X11_OFFSET, u32::from(*character)).ok();
    }
    format!(
        "xkb_keymap {{ xkb_keycodes {{ include \"evdev+aliases(qwerty)\" }}; xkb_types {{ include \"complete\" }}; \
         xkb_compat {{ include \"complete\" }}; xkb_symbols {{ include \"pc+us+inet(evdev)\"{keys} }}; }};"
    )
}

/// Rows of the US layout: first evdev code, characters without and with shift.
const US_ROWS: [(u16, &str, &str); 5] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", " "),
];

fn us_key(character: char) -> Option<(u16, bool)> {
    match character {
        '\n' | '\r' => return Some((28, false)),
        '\t' => return Some((15, false)),
        '\u{8}' => return Some((14, false)),
        _ => {}
    }
    US_ROWS.iter().find_map(|(first, plain, shifted)| {
        let at = |row: &str| row.chars().position(|candidate| candidate == character);
        let (offset, shift) = at(plain).map(|i| (i, false)).or_else(|| at(shifted).map(|i| (i, true)))?;
        Some((first + offset as u16, shift))
    })
}

#[cfg(test)]
mod tests {
    use smithay::input::keyboard::xkb;

    use super::*;

    /// Types the text on a real XKB keymap and reads back what it would write.
    fn check(text: &str, expected: &str) {
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let compile = |characters: &[char]| {
            let text = keymap_text(characters);
            let map = xkb::Keymap::new_from_string(&context, text, xkb::KEYMAP_FORMAT_TEXT_V1, 0).unwrap();
            xkb::State::new(&map)
        };
        let mut state = compile(&[]);
        let mut written = String::new();
        for step in steps(text) {
            match step {
                Step::Remap(characters) => state = compile(&characters),
                Step::Press { code, shift } => {
                    let key = |code: u16| xkb::Keycode::new(u32::from(code) + X11_OFFSET);
                    let direction = |down| if down { xkb::KeyDirection::Down } else { xkb::KeyDirection::Up };
                    state.update_key(key(KEY_LEFTSHIFT), direction(shift));
                    written.push_str(&state.key_get_utf8(key(code)));
                    state.update_key(key(KEY_LEFTSHIFT), direction(false));
                }
            }
        }
        assert_eq!(written, expected);
    }

    #[test]
    fn every_printable_ascii_character_has_its_key() {
        let text: String = (' '..='~').collect();
        check(&text, &text);
    }

    #[test]
    fn other_characters_use_spare_keys() {
        check("Grüße, né? €5", "Grüße, né? €5");
        check("абвгдежзийклмн", "абвгдежзийклмн");
        check("a\nb\tc\u{7}", "a\rb\tc");
    }
}
