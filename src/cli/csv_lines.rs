//! Line numbers of CSV records. Those of the csv crate are where it began to look for a record, so an empty
//! line or a CRLF in front makes them too small.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

/// Passes on what it reads, and tells a [`LineCounter`] where line breaks are.
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
        let count = self.inner.read(buffer)?;
        let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// The line on which the record starts; 1 is the first.
    pub(super) fn line_of(&mut self, position: Option<&csv::Position>) -> u64 {
        let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
        // From where the search began, breaks that follow each other still lie before the record.
        let mut start = position.map_or(0, csv::Position::byte);
        while let Some((at, byte)) = breaks.ahead.front().copied()
            && at <= start
        {
            breaks.ahead.pop_front();
            breaks.lines_passed += u64::from(byte == b'\n');
            start += u64::from(at == start);
        }
        breaks.lines_passed + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_an_editor() {
        for (text, lines) in [
            ("id\na\nb\n", vec![2, 3]),
            ("id\r\na\r\nb\r\n", vec![2, 3]),
            ("id\n\n\na\n\nb", vec![4, 6]),
            ("id\r\n\r\na\r\nb", vec![3, 4]),
            ("\u{feff}id\na\n", vec![2]),
            ("id\n\"a\n\nb\"\nc\n", vec![2, 5]),
        ] {
            let (input, mut counter) = tap(text.as_bytes());
            let records = csv::Reader::from_reader(input).into_records();
            let found: Vec<u64> = records.map(|record| counter.line_of(record.unwrap().position())).collect();
            assert_eq!(found, lines, "{text:?}");
        }
    }
}
