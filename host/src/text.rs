//! Names of files and classes come from anywhere; what reaches a terminal or a line of output is printable.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal, or a reader of lines, would take the character for more than a letter: control
/// characters (C0, DEL, C1), line and paragraph separators, and those that reorder what stands around them.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, escape: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&escape) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match escape(c) {
            // Writing to a string cannot fail.
            true => drop(write!(shown, "{}", c.escape_default())),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// A name as part of a line: nothing in it ends the line, moves the cursor, colours or reorders; such
/// characters show as `\n`, `\t`, `\u{1b}`.
pub fn line(name: &str) -> Cow<'_, str> {
    escaped(name, acts)
}

/// Text of several lines, with tabs: as [`line()`], but newlines and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && c != '\n' && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelt_out() {
        assert_eq!(line("\u{1b}[31mred\n.png"), "\\u{1b}[31mred\\n.png");
        assert_eq!(line("a\tb\rc\u{7f}\u{9b}1m"), "a\\tb\\rc\\u{7f}\\u{9b}1m");
        assert_eq!(line("gnp.\u{202e}exe\u{2066}\u{2028}"), "gnp.\\u{202e}exe\\u{2066}\\u{2028}");
        assert_eq!(lines("a\tb\n\u{1b}]0;title\u{7}c"), "a\tb\n\\u{1b}]0;title\\u{7}c");
    }

    #[test]
    fn what_does_not_act_stays_as_it_is() {
        for name in ["plain.png", "naïve 日本語 😀 \\n é\u{301}.png", ""] {
            assert!(matches!(line(name), Cow::Borrowed(same) if same == name));
        }
    }
}
