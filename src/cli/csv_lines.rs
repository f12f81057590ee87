//! Line numbers of CSV records, and their limit. The line numbers of the csv crate are where it began to look for a
//! record, so an empty line or a CRLF in front makes them too small. And it would read a record whose closing quote is
//! missing to the end of the file, however large that is.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::anyhow;

use crate::types::{MAX_PAYLOAD_BYTES, shortened};

/// Longest record, as for a line of NDJSON: an id, a payload in which every byte is escaped, and the rest.
const MAX_RECORD_BYTES: u64 = 8 * MAX_PAYLOAD_BYTES as u64;

/// Passes on what it reads as long as no record is too long, and tells a [`LineCounter`] where line breaks are.
pub(super) struct Tapped<R> {
    inner: R,
    breaks: Arc<Mutex<Breaks>>,
}

/// Tells the lines of records; they have to come in order.
pub(super) struct LineCounter {
    breaks: Arc<Mutex<Breaks>>,
}

#[derive(Default)]
struct Breaks {
    bytes_read: u64,
    /// How many there were when the last record was told. At most one buffer of these was of the next.
    bytes_told: u64,
    /// Offsets of CR and LF that no record lies behind yet: at most those of the csv crate's buffer.
    ahead: VecDeque<(u64, u8)>,
    lines_passed: u64,
}

/// Puts a tap between the input and the csv reader.
pub(super) fn tap<R: Read>(inner: R) -> (Tapped<R>, LineCounter) {
    let breaks = Arc::<Mutex<Breaks>>::default();
    (Tapped { inner, breaks: Arc::clone(&breaks) }, LineCounter { breaks })
}

impl<R: Read> Read for Tapped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
        if breaks.bytes_read - breaks.bytes_told > MAX_RECORD_BYTES {
            let why = format!("is longer than {MAX_RECORD_BYTES} bytes: is a quote missing at its end?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let count = self.inner.read(buffer)?;
        for (at, byte) in (breaks.bytes_read..).zip(&buffer[..count]) {
            if matches!(byte, b'\r' | b'\n') {
                breaks.ahead.push_back((at, *byte));
            }
        }
        breaks.bytes_read += count as u64;
        Ok(count)
    }
}

impl LineCounter {
    /// The line on which a record starts that was looked for from this byte on; 1 is the first. A carriage return
    /// ends a line as well, as it ends a record.
    pub(super) fn line_of(&mut self, mut start: u64) -> u64 {
        let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
        breaks.bytes_told = breaks.bytes_read;
        // From where the search began, breaks that follow each other still lie before the record.
        while let Some((at, byte)) = breaks.ahead.front().copied()
            && at <= start
        {
            breaks.ahead.pop_front();
            let goes_on = byte == b'\r' && breaks.ahead.front() == Some(&(at + 1, b'\n'));
            breaks.lines_passed += u64::from(!goes_on);
            start += u64::from(at == start);
        }
        breaks.lines_passed + 1
    }
}

/// What is wrong with a record, without the line: the csv crate's may be another. An error of the reader stays one.
pub(super) fn explain(error: csv::Error) -> anyhow::Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow!("it has {len} cells, and the header {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => anyhow!("cell {} is not UTF-8", err.field() + 1),
        csv::ErrorKind::Io(_) => match error.into_kind() {
            csv::ErrorKind::Io(cause) => cause.into(),
            other => anyhow!("{other:?}"),
        },
        _ => anyhow!("{}", shortened(&error.to_string(), 200)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_end_is_an_error_of_the_reader() {
        let (input, _counter) = tap(io::Cursor::new("id\n\"").chain(io::repeat(b'x')));
        let error = csv::Reader::from_reader(input).into_records().next().unwrap().unwrap_err();
        assert!(explain(error).is::<io::Error>());
    }

    #[test]
    fn errors_name_the_cells_and_no_line() {
        let explained = |text: &[u8]| {
            let records = csv::Reader::from_reader(text).into_records();
            records.filter_map(Result::err).map(|error| explain(error).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            explained(b"id,due_at\na\nb,\xff\n"),
            ["it has 1 cells, and the header 2", "cell 2 is not UTF-8"]
        );
    }

    #[test]
    fn lines_are_those_of_an_editor() {
        for (text, lines) in [
            ("id\na\nb\n", vec![2, 3]),
            ("id\r\na\r\nb\r\n", vec![2, 3]),
            ("id\n\n\na\n\nb", vec![4, 6]),
            ("id\r\n\r\na\r\nb", vec![3, 4]),
            ("\u{feff}id\na\n", vec![2]),
            ("id\n\"a\n\nb\"\nc\n", vec![2, 5]),
            ("id\ra\r\rb\r\nc", vec![2, 4, 5]),
        ] {
            let (input, mut counter) = tap(text.as_bytes());
            let records = csv::Reader::from_reader(input).into_records();
            let start = |record: csv::Result<csv::StringRecord>| record.unwrap().position().unwrap().byte();
            let found: Vec<u64> = records.map(|record| counter.line_of(start(record))).collect();
            assert_eq!(found, lines, "{text:?}");
        }
    }
}
