//! Entries spread over temporary files by the hash of their id, so that each file fits into memory.

use std::{
    fs::File,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    io::{self, BufReader, BufWriter, Seek as _, Write as _},
};

use anyhow::Context as _;

use crate::types::{DueAt, Id, Payload};

/// An id with its deadline; none for one that is in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) due_at: Option<DueAt>,
    pub(super) payload: Option<Payload>,
}

/// The files. The system removes them when they are closed, however this process ends.
pub(super) struct Parts(Vec<BufWriter<File>>);

impl Parts {
    /// Ten million ids are 160,000 in each. Three times as many files are open at once, and some systems allow 256.
    pub(super) const COUNT: usize = 64;
    /// The buffers of all are 12 MiB together.
    const BUFFER_BYTES: usize = 64 << 10;

    pub(super) fn new() -> anyhow::Result<Self> {
        let file = |_| Ok(BufWriter::with_capacity(Self::BUFFER_BYTES, tempfile::tempfile()?));
        let files: io::Result<Vec<_>> = (0..Self::COUNT).map(file).collect();
        Ok(Self(files.context("cannot make temporary files; TMPDIR says where")?))
    }

    /// Adds an entry: lengths, deadline in ms or 0, id, payload.
    pub(super) fn put(&mut self, entry: &Entry) -> io::Result<()> {
        let (id, payload) = (entry.id.as_str(), entry.payload.as_ref().map_or("", Payload::as_str));
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        let file = &mut self.0[(hash % Self::COUNT as u64) as usize];
        file.write_all(&(id.len() as u16).to_le_bytes())?;
        file.write_all(&(payload.len() as u32).to_le_bytes())?;
        file.write_all(&entry.due_at.map_or(0, DueAt::as_ms).to_le_bytes())?;
        file.write_all(id.as_bytes())?;
        file.write_all(payload.as_bytes())
    }

    /// The entries, file by file.
    pub(super) fn read(self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Vec<Entry>>>> {
        Ok(self.0.into_iter().map(|file| {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            entries(BufReader::new(file)).context("cannot read a temporary file")
        }))
    }
}

fn entries(mut file: impl io::Read) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut head = [0; 14];
    loop {
        match file.read_exact(&mut head) {
            Ok(()) => {}
            Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(entries),
            Err(cause) => return Err(cause.into()),
        }
        let (id_len, payload_len, due_ms) = lengths(head);
        let mut text = |len: usize| {
            let mut bytes = vec![0; len];
            file.read_exact(&mut bytes)?;
            Ok::<_, anyhow::Error>(String::from_utf8(bytes)?)
        };
        let (id, payload) = (text(id_len)?, text(payload_len)?);
        entries.push(Entry {
            id: Id::new(id)?,
            due_at: DueAt::from_ms(due_ms).ok(),
            payload: Payload::new(payload).ok(),
        });
    }
}

fn lengths(head: [u8; 14]) -> (usize, usize, i64) {
    let [a, b, c, d, e, f, due @ ..] = head;
    (u16::from_le_bytes([a, b]).into(), u32::from_le_bytes([c, d, e, f]) as usize, i64::from_le_bytes(due))
}
