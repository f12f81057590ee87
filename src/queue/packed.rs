//! What a claim packed: ids, scores and payloads as one string of MessagePack, read in place. Asked for as values of
//! Redis they would be two strings an id to be copied there, and two more to be allocated here.
//!
//! Source: the [specification of MessagePack](https://github.com/msgpack/msgpack/blob/master/spec.md); Redis' `cmsgpack`
//! writes strings of any bytes, and an empty table as an empty array.

use std::collections::HashMap;

use rmp::decode::{read_array_len, read_map_len, read_str_len};

use crate::error::{Error, Result};

/// `{{id, score, …}, {id -> payload}}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Packed<'a> {
    /// Ids, each with its score, in the order of the claim.
    pub(super) entries: Vec<(&'a [u8], &'a [u8])>,
    /// Payloads of those ids that have one.
    pub(super) payloads: HashMap<&'a [u8], &'a [u8]>,
}

impl<'a> Packed<'a> {
    /// Reads all of it; nothing claimed is the empty string.
    ///
    /// # Errors
    /// [`Error::Reply`], if it is anything else.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut rest = bytes;
        match read_parts(&mut rest) {
            Some(packed) if rest.is_empty() => Ok(packed),
            _ => Err(Error::Reply { script: "claim", detail: "a batch that cannot be unpacked".to_owned() }),
        }
    }
}

fn read_parts<'a>(bytes: &mut &'a [u8]) -> Option<Packed<'a>> {
    if read_array_len(bytes).ok()? != 2 {
        return None;
    }
    let len = read_array_len(bytes).ok()?;
    if len % 2 == 1 {
        return None;
    }
    let entries = read_pairs(bytes, len / 2)?;
    let mut ahead = *bytes;
    let payloads = match read_map_len(&mut ahead) {
        Ok(len) => {
            *bytes = ahead;
            read_pairs(bytes, len)?
        }
        Err(_) if read_array_len(bytes).ok()? == 0 => Vec::new(),
        Err(_) => return None,
    };
    Some(Packed { entries, payloads: payloads.into_iter().collect() })
}

fn read_pairs<'a>(bytes: &mut &'a [u8], count: u32) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    // Each string is a byte at least, so what a damaged length announces cannot take more memory than what came.
    let mut pairs = Vec::with_capacity((count as usize).min(bytes.len() / 2));
    for _ in 0..count {
        pairs.push((read_string(bytes)?, read_string(bytes)?));
    }
    Some(pairs)
}

fn read_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = read_str_len(bytes).ok()? as usize;
    let (string, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(string)
}

#[cfg(test)]
pub(super) mod tests {
    use rmp::encode::{write_array_len, write_map_len, write_str_len};

    use super::*;

    fn string(bytes: &mut Vec<u8>, text: &[u8]) {
        write_str_len(bytes, text.len() as u32).unwrap();
        bytes.extend(text);
    }

    type Pair = (Vec<u8>, Vec<u8>);

    /// As `claim` does it.
    pub(crate) fn pack(entries: &[Pair], payloads: &[Pair]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_array_len(&mut bytes, 2).unwrap();
        write_array_len(&mut bytes, 2 * entries.len() as u32).unwrap();
        for (id, score) in entries {
            string(&mut bytes, id);
            string(&mut bytes, score);
        }
        if payloads.is_empty() {
            write_array_len(&mut bytes, 0).unwrap();
        } else {
            write_map_len(&mut bytes, payloads.len() as u32).unwrap();
        }
        for (id, payload) in payloads {
            string(&mut bytes, id);
            string(&mut bytes, payload);
        }
        bytes
    }

    fn pair(key: &[u8], value: &[u8]) -> Pair {
        (key.to_vec(), value.to_vec())
    }

    #[test]
    fn what_was_packed_is_read_whatever_its_bytes_are() {
        let long = vec![b'x'; 70_000];
        let entries = [
            pair(b"order-42", b"1767225600000"),
            pair(b"\xff\0", b"1767225600000.5"),
            pair(&long[..256], b"1e+300"),
        ];
        let payloads = [pair(b"order-42", b"{}"), pair(&long[..256], &long)];
        for payloads in [&payloads[..], &[]] {
            let bytes = pack(&entries, payloads);
            let read = Packed::read(&bytes).unwrap();
            assert!(entries.iter().map(|(id, score)| (&**id, &**score)).eq(read.entries));
            assert_eq!(read.payloads.len(), payloads.len());
            assert!(payloads.iter().all(|(id, payload)| read.payloads[&**id] == payload));
        }
        assert_eq!(Packed::read(b"").unwrap(), Packed::default());
    }

    #[test]
    fn what_is_cut_or_longer_is_an_error() {
        let whole = pack(&[pair(b"a", b"1767225600000")], &[pair(b"a", b"p")]);
        for end in 1..whole.len() {
            Packed::read(&whole[..end]).unwrap_err();
        }
        Packed::read(&[&whole[..], b"x"].concat()).unwrap_err();
        // An array that announces four billion strings.
        Packed::read(b"\x92\xdd\xff\xff\xff\xfe").unwrap_err();
    }
}
