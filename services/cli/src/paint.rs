//! Colours, and whether there are to be any.

use std::{fmt, io::IsTerminal};

use crate::args::Color;

/// What a text is about; how that looks is decided in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Passes, healthy.
    Good,
    /// Refused, down.
    Bad,
    /// Wants attention.
    Warning,
    /// Goes another way.
    Special,
    /// Head of a table.
    Title,
    /// Of less weight.
    Faint,
}

impl Tone {
    /// ECMA-48, select graphic rendition.
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warning => "33",
            Self::Special => "36",
            Self::Title => "1",
            Self::Faint => "2",
        }
    }
}

/// Colours texts, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output. <https://no-color.org>: any value that is not empty counts.
    pub(crate) fn for_stdout(choice: Color) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let on = match choice {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && !unwanted && !dumb,
        };
        Self { on }
    }

    /// `text` in the colour of `tone`, filled with spaces up to `width` columns (one letter is one column).
    pub(crate) fn text<'a>(
        self,
        tone: Tone,
        text: impl Into<std::borrow::Cow<'a, str>>,
        width: usize,
    ) -> Painted<'a> {
        Painted {
            on: self.on,
            tone,
            text: text.into(),
            width,
        }
    }
}

/// See [`Paint::text`].
pub(crate) struct Painted<'a> {
    on: bool,
    tone: Tone,
    text: std::borrow::Cow<'a, str>,
    width: usize,
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, width) = (&self.text, self.width);
        if self.on {
            let fill = width.saturating_sub(text.chars().count());
            write!(f, "\x1b[{}m{text}\x1b[0m{:fill$}", self.tone.code(), "")
        } else {
            write!(f, "{text:width$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_do_not_count_as_columns() {
        let (on, off) = (Paint { on: true }, Paint { on: false });
        assert_eq!(off.text(Tone::Bad, "block", 7).to_string(), "block  ");
        assert_eq!(
            on.text(Tone::Bad, "block", 7).to_string(),
            "\x1b[31mblock\x1b[0m  "
        );
        assert_eq!(on.text(Tone::Good, "é", 2).to_string(), "\x1b[32mé\x1b[0m ");
    }
}
