//! Newline-delimited JSON: one object a line, read in bounded memory.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;

/// Line numbers from 1, and what `parse` makes of the lines; empty ones are left out. A line of `max_line_bytes` or
/// more is an error, and is skipped.
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
            match input.by_ref().take(max_line_bytes).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == max_line_bytes => {
                    let skipped = input.skip_until(b'\n').context("cannot read on").map(drop);
                    let too_long = anyhow!("is longer than {max_line_bytes} bytes");
                    return Some((number, Err(skipped.err().unwrap_or(too_long))));
                }
                Ok(_) => return Some((number, parse(line.trim_ascii()))),
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
        anyhow!("{}", text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what))
    })
}
