//! Text from outside (paths, arguments, domains, other hosts' words) on its way to a terminal.
//!
//! Invariant: what leaves this module holds no control character and nothing that reorders or hides its neighbours, so
//! that no program can move the cursor, recolour, or forge a line by its name. What is dangerous is written as an escape
//! and stays readable.

use std::{borrow::Cow, fmt::Write as _, io};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// `text` with everything dangerous as `\n`, `\t`, `\u{9b}`, …
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|letter| is_dangerous(letter) || letter == '\\') {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_dangerous(letter) || letter == '\\' {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// An argument list as one would type it: [`printable`], with quotes where a shell needs them; cut after `limit` letters.
pub(crate) fn command_line(arguments: &[String], limit: usize) -> String {
    let quoted = arguments.iter().map(|argument| quoted(argument));
    let mut line = quoted.collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(limit) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn quoted(argument: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=,@%+~".contains(letter);
    if !argument.is_empty() && argument.chars().all(plain) {
        return Cow::Borrowed(argument);
    }
    Cow::Owned(format!("'{}'", printable(argument).replace('\'', "'\\''")))
}

/// Controls of C0 and C1, DEL, line and paragraph separators, directional overrides, what has no width.
fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line of JSON with its line feed; it says exactly what `value` holds, dangerous letters as `\uXXXX`.
///
/// # Errors
/// Where `value` cannot be JSON (a map whose keys are no strings).
pub(crate) fn json_line(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(
        &mut bytes,
        Safe(CompactFormatter),
    ))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Compact JSON, with more letters escaped than JSON asks for.
struct Safe(CompactFormatter);

impl Formatter for Safe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !fragment.chars().any(is_dangerous) {
            return self.0.write_string_fragment(writer, fragment);
        }
        let mut safe = String::with_capacity(fragment.len() + 8);
        for letter in fragment.chars() {
            push_json(&mut safe, letter);
        }
        self.0.write_string_fragment(writer, &safe)
    }
}

fn push_json(text: &mut String, letter: char) {
    if !is_dangerous(letter) {
        return text.push(letter);
    }
    for unit in letter.encode_utf16(&mut [0; 2]) {
        let _infallible = write!(text, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "/usr/bin/curl", "пример.испытание", "naïve café", "a b"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn a_name_cannot_move_the_cursor_or_forge_a_line() {
        assert_eq!(printable("x\x1b[2K\rallow"), "x\\u{1b}[2K\\rallow");
        assert_eq!(printable("a\nb\u{9b}c\u{202e}d"), "a\\nb\\u{9b}c\\u{202e}d");
        assert_eq!(
            printable(r"a\nb"),
            r"a\\nb",
            "an escape is not to be confused with the same letters in a name"
        );
    }

    #[test]
    fn arguments_are_quoted_as_a_shell_wants_them() {
        let arguments = ["sh", "-c", "echo hi; it's", "", "a\nb"].map(str::to_owned);
        assert_eq!(
            command_line(&arguments, 99),
            r"sh -c 'echo hi; it'\''s' '' 'a\nb'"
        );
    }

    #[test]
    fn a_long_command_line_is_cut_between_letters() {
        let arguments = ["é".repeat(9), "x".to_owned()];
        assert_eq!(command_line(&arguments, 4), "éééé…");
        assert_eq!(command_line(&arguments, 11), "ééééééééé x");
    }

    #[test]
    fn json_keeps_what_it_escapes() {
        let text = "\u{1b}[31m\u{9b}\u{202e}\u{e0001}\"\\ é";
        let line = json_line(&text).unwrap();
        assert_eq!(line, "\"\\u001b[31m\\u009b\\u202e\\udb40\\udc01\\\"\\\\ é\"\n");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    proptest! {
        #[test]
        fn nothing_dangerous_gets_through(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(is_dangerous));
            prop_assert!(!command_line(std::slice::from_ref(&text), 9).chars().any(is_dangerous));
            let line = json_line(&text).unwrap();
            prop_assert!(!line.trim_end_matches('\n').chars().any(is_dangerous));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
