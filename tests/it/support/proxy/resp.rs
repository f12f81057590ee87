//! Where the values of RESP2 and RESP3 begin and end, however their bytes are split.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::Instant,
};

/// Far above what overdue sends at once (4 MiB of payloads) or gets (4 MiB and a step of 6.4).
const MAX_FRAME_BYTES: usize = 32 << 20;
/// The deepest reply of overdue has four levels.
const MAX_DEPTH: usize = 32;
const CHUNK_BYTES: usize = 64 << 10;

/// Finds the end of one value after the other.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// How many values are still to come, on each level that is open.
    open: Vec<u64>,
    /// The first bytes of the line that is being read: a type, and mostly a length.
    head: Vec<u8>,
    /// The last byte of that line.
    last: u8,
    /// Bytes of a blob that are still to come, with its CRLF.
    blob_left: u64,
}

impl Framer {
    /// Longer than any length in digits.
    const HEAD_BYTES: usize = 24;

    /// How many of these bytes belong to the current value, and whether it ends with them.
    ///
    /// # Errors
    /// If they are no RESP.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let mut at = 0;
        while at < bytes.len() {
            let is_over = if self.blob_left > 0 {
                let step = self.blob_left.min((bytes.len() - at) as u64);
                self.blob_left -= step;
                at += step as usize;
                self.blob_left == 0
            } else {
                let (byte, before) = (bytes[at], self.last);
                at += 1;
                self.last = byte;
                if self.head.len() < Self::HEAD_BYTES {
                    self.head.push(byte);
                }
                byte == b'\n' && before == b'\r' && self.line()?
            };
            if is_over && self.value_ended() {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// A line is complete; true if a value is with it.
    fn line(&mut self) -> io::Result<bool> {
        let head = std::mem::take(&mut self.head);
        self.last = 0;
        let length = || {
            let digits = head[1..].strip_suffix(b"\r\n").and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| digits.parse::<i64>().ok()).ok_or_else(|| malformed(&head))
        };
        let (values, is_blob) = match head[0] {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(true),
            b'$' | b'!' | b'=' => (length()?, true),
            b'*' | b'~' | b'>' => (length()?, false),
            b'%' => (length()?.saturating_mul(2), false),
            // An attribute stands before the value that it describes.
            b'|' => (length()?.saturating_mul(2).saturating_add(1), false),
            _ => return Err(malformed(&head)),
        };
        // -1 is nil.
        let Ok(count) = u64::try_from(values) else { return Ok(true) };
        if is_blob {
            self.blob_left = count.saturating_add(2);
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
        if self.open.len() == MAX_DEPTH {
            return Err(io::Error::other("values are nested too deeply"));
        }
        self.open.push(count);
        Ok(false)
    }

    /// One value is complete, and with it maybe those around it; true if no other is open.
    fn value_ended(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

fn malformed(head: &[u8]) -> io::Error {
    io::Error::other(format!("no RESP: {:?}", String::from_utf8_lossy(head)))
}

/// Reads a stream value by value.
pub(crate) struct Frames<R> {
    from: R,
    framer: Framer,
    chunk: Vec<u8>,
    /// When the last bytes came.
    pub(crate) arrived: Instant,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, framer: Framer::default(), chunk: Vec::new(), arrived: Instant::now() }
    }

    /// The bytes of the next value; none at the end of the stream, and of one that breaks off within a value.
    ///
    /// # Errors
    /// If the stream fails, is no RESP, or a value is too large.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = Vec::new();
        loop {
            let (taken, is_over) = self.framer.scan(&self.chunk)?;
            frame.extend(self.chunk.drain(..taken));
            if is_over {
                return Ok(Some(frame));
            }
            if frame.len() > MAX_FRAME_BYTES {
                return Err(io::Error::other("a value is too large"));
            }
            self.chunk.reserve(CHUNK_BYTES);
            if self.from.read_buf(&mut self.chunk).await? == 0 {
                return Ok(None);
            }
            self.arrived = Instant::now();
        }
    }
}

/// The first words of a request, which is an array of blobs; none of anything else.
pub(crate) fn words(request: &[u8], count: usize) -> Vec<&[u8]> {
    let mut lines = Lines(request);
    let mut words = Vec::new();
    if lines.number(b'*').is_none() {
        return words;
    }
    while words.len() < count
        && let Some(length) = lines.number(b'$')
        && lines.0.len() >= length + 2
    {
        words.push(&lines.0[..length]);
        lines.0 = &lines.0[length + 2..];
    }
    words
}

struct Lines<'a>(&'a [u8]);

impl Lines<'_> {
    /// Takes a line of this type and gives its number.
    fn number(&mut self, kind: u8) -> Option<usize> {
        let end = self.0.iter().position(|byte| *byte == b'\r')?;
        let (line, rest) = (&self.0[..end], self.0.get(end + 2..)?);
        let number = std::str::from_utf8(line.strip_prefix(&[kind])?).ok()?.parse().ok()?;
        self.0 = rest;
        Some(number)
    }
}
