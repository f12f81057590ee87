//! Newline-delimited JSON: one object a line, read in bounded memory.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;

use crate::types::shortened;

/// What some programs put in front of text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// True for the beginning of an object.
pub(super) fn begins(text: &[u8]) -> bool {
    without_mark(text).trim_ascii_start().starts_with(b"{")
}

/// Line numbers from 1, and what `parse` makes of the lines; empty ones are left out. A line of more than
/// `max_line_bytes`, its end included, is an error, and is skipped.
pub(super) fn read<T>(
    mut input: impl BufRead,
    max_line_bytes: u64,
    mut parse: impl FnMut(&[u8]) -> anyhow::Result<T>,
) -> impl Iterator<Item = (u64, anyhow::Result<T>)> {
    let mut number = 0;
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        loop {
            number += 1;
            line.clear();
            // One byte more tells a line that is too long from one that just fits.
            match input.by_ref().take(max_line_bytes + 1).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(len) if len as u64 > max_line_bytes => {
                    let is_whole = line.last() == Some(&b'\n');
                    let skipped = if is_whole { Ok(0) } else { input.skip_until(b'\n') };
                    let too_long = anyhow!("is longer than {max_line_bytes} bytes");
                    return Some((number, Err(skipped.context("cannot read on").err().unwrap_or(too_long))));
                }
                Ok(_) => {
                    let text = if number == 1 { without_mark(&line) } else { &line[..] };
                    if !text.trim_ascii().is_empty() {
                        return Some((number, parse(text.trim_ascii())));
                    }
                }
                Err(cause) => {
                    return Some((number, Err(anyhow::Error::new(cause).context("cannot read on"))));
                }
            }
        }
    })
}

/// One line. Each is a document of its own to serde, which adds that it is line 1: that is left out.
pub(super) fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> anyhow::Result<T> {
    serde_json::from_slice(line).map_err(|cause| {
        let text = cause.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        // It may quote what stands in the line.
        anyhow!("{}", shortened(what, 400))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str, max_line_bytes: u64) -> Vec<(u64, bool)> {
        let parse = |line: &[u8]| parse::<serde::de::IgnoredAny>(line);
        read(text.as_bytes(), max_line_bytes, parse).map(|(number, line)| (number, line.is_ok())).collect()
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_whatever_stands_in_it() {
        assert_eq!(numbers("1\n        \n2\n", 4), [(1, true), (2, false), (3, true)]);
        assert_eq!(numbers("123\n1234\n12345\n123", 4), [(1, true), (2, false), (3, false), (4, true)]);
        assert_eq!(numbers("1234", 4), [(1, true)]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(numbers("\u{feff}1\n\u{feff}2", 9), [(1, true), (2, false)]);
        assert!(begins("\u{feff} {".as_bytes()) && !begins(b"id,due_at"));
    }

    #[test]
    fn errors_are_short_and_clean() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let line = format!("{{\"\\u001b[2J{}\":1}}", "x".repeat(9999));
        let error = parse::<Nothing>(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("\\u{1b}[2J") && error.chars().count() < 500, "{error}");
    }
}
