//! Cuts the beginning of a transaction off the end of an append-only file.
//!
//! A loss of power may take the end of the file. Redis starts on what is left, but when the end is missing inside of a
//! transaction, as the writes of every script are one, it keeps the beginning of that: all that is written from then
//! on stands behind an open `MULTI`. The next start drops it, or runs half a script together with the next one. Redis
//! 7.0 does so, and Valkey did until August 2026 (valkey-io/valkey#4342). So it is cut off before the server sees it.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

const DIR: &str = "appendonlydir";
const MANIFEST: &str = "appendonly.aof.manifest";
/// What Redis before 7 keeps everything in.
const SINGLE: &str = "appendonly.aof";
/// The longest line there is: a comment with a time, or the length of something.
const LINE_MAX_BYTES: u64 = 1024;

/// Cuts off what is torn, and answers how many bytes that were. A file that is damaged elsewhere is left alone: Redis
/// refuses it, and a person has to look.
pub(super) fn mend(dir: &Path) -> io::Result<u64> {
    let log = last_log(dir)?;
    let file = match OpenOptions::new().read(true).write(true).open(log) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let torn = match whole_len(BufReader::with_capacity(1 << 16, &file))? {
        Some(whole) => file.metadata()?.len() - whole,
        None => 0,
    };
    if torn > 0 {
        cut(&file, torn)?;
    }
    Ok(torn)
}

fn cut(file: &File, torn: u64) -> io::Result<()> {
    file.set_len(file.metadata()?.len() - torn)?;
    file.sync_all()
}

/// The file that was written to last: the only one that may be torn.
fn last_log(dir: &Path) -> io::Result<PathBuf> {
    let manifest = match std::fs::read_to_string(dir.join(DIR).join(MANIFEST)) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(dir.join(SINGLE)),
        read => read?,
    };
    // `file appendonly.aof.1.incr.aof seq 1 type i`
    let last = manifest.lines().rfind(|line| line.ends_with(" type i"));
    let name = last.and_then(|line| line.split(' ').nth(1));
    Ok(name.map_or_else(|| dir.join(SINGLE), |name| dir.join(DIR).join(name)))
}

/// How much of a log is whole commands and whole transactions; none if it is something else.
fn whole_len(log: impl BufRead) -> io::Result<Option<u64>> {
    let mut scan = Scan { log, at: 0 };
    let (mut whole, mut is_open) = (0, false);
    loop {
        match scan.next()? {
            Found::Command(name) => match &*name.to_ascii_uppercase() {
                b"MULTI" => is_open = true,
                b"EXEC" => is_open = false,
                _ => {}
            },
            Found::Comment => {}
            Found::End => return Ok(Some(whole)),
            Found::Strange => return Ok(None),
        }
        if !is_open {
            whole = scan.at;
        }
    }
}

/// What stands next in a log.
enum Found {
    Command(Vec<u8>),
    Comment,
    /// Nothing, or the beginning of something.
    End,
    /// No command.
    Strange,
}

struct Scan<R> {
    log: R,
    at: u64,
}

impl<R: BufRead> Scan<R> {
    fn next(&mut self) -> io::Result<Found> {
        let Some(line) = self.line()? else { return Ok(Found::End) };
        if line.starts_with(b"#") {
            return Ok(Found::Comment);
        }
        let Some(count @ 1..) = number(&line, b'*') else { return Ok(Found::Strange) };
        let mut name = Vec::new();
        for n in 0..count {
            let Some(line) = self.line()? else { return Ok(Found::End) };
            let Some(len) = number(&line, b'$') else { return Ok(Found::Strange) };
            let mut word = self.log.by_ref().take(len + 2);
            // Only names are looked at, and a payload may be large.
            let read = if n == 0 {
                word.read_to_end(&mut name)? as u64
            } else {
                io::copy(&mut word, &mut io::sink())?
            };
            self.at += read;
            if read < len + 2 {
                return Ok(Found::End);
            }
        }
        name.truncate(name.len() - 2);
        Ok(Found::Command(name))
    }

    /// A line; none if the log ends before it does.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.log.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
        self.at += line.len() as u64;
        let is_whole = line.ends_with(b"\r\n") || line.len() as u64 == LINE_MAX_BYTES;
        Ok(is_whole.then_some(line))
    }
}

/// The number of a line such as `*3`.
fn number(line: &[u8], kind: u8) -> Option<u64> {
    let digits = line.strip_prefix(&[kind])?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n";
    const MULTI: &[u8] = b"*1\r\n$5\r\nmulti\r\n";
    const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
    const COMMENT: &[u8] = b"#TS:1767225600\r\n";

    fn whole(log: &[u8]) -> Option<u64> {
        whole_len(log).expect("memory can be read")
    }

    #[test]
    fn wherever_a_log_is_cut_whole_commands_and_transactions_stay() {
        let log = [SET, COMMENT, MULTI, SET, SET, EXEC, SET].concat();
        let transaction = SET.len() + COMMENT.len();
        let end = transaction + MULTI.len() + 2 * SET.len() + EXEC.len();
        let ends = [0, SET.len(), transaction, end, log.len()];
        for cut in 0..=log.len() {
            let before = ends.iter().filter(|end| **end <= cut).max().expect("0 is one");
            assert_eq!(whole(&log[..cut]), Some(*before as u64), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_log_is_left_alone() {
        for strange in
            [&b"REDIS0010\r\n\xfa"[..], b"this is no AOF\r\n", b"*0\r\n", b"*x\r\n", b"*1\r\n+OK\r\n"]
        {
            assert_eq!(whole(&[SET, strange].concat()), None);
        }
        assert_eq!(whole(&[b'*'; 5000]), None);
    }

    #[test]
    fn the_last_incremental_file_is_the_one() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(mend(dir.path()).expect("nothing to do"), 0);
        let files = dir.path().join(DIR);
        std::fs::create_dir(&files).expect("created");
        let manifest = "file b seq 1 type b\nfile i1 seq 1 type i\nfile i2 seq 2 type i\n";
        std::fs::write(files.join(MANIFEST), manifest).expect("written");
        for name in ["b", "i1", "i2"] {
            std::fs::write(files.join(name), [SET, MULTI, SET, b"*1"].concat()).expect("written");
        }
        assert_eq!(mend(dir.path()).expect("mended"), (MULTI.len() + SET.len() + 2) as u64);
        assert_eq!(std::fs::read(files.join("i2")).expect("read"), SET);
        assert_ne!(std::fs::read(files.join("i1")).expect("read"), SET);
        assert_eq!(mend(dir.path()).expect("nothing to do"), 0);
    }
}
