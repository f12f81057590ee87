//! Hash slots: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>.

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: that of what stands within its first pair of braces, if something does, else of all of it.
#[must_use]
pub fn slot_of(key: &str) -> u16 {
    let key = key.as_bytes();
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let len = key[open..].iter().position(|byte| *byte == b'}')?;
        (len > 0).then(|| &key[open..open + len])
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, which is the one that Redis uses.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    const POLYNOMIAL: u16 = 0x1021;
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ POLYNOMIAL }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn the_slot_is_that_of_the_hash_tag() {
        // As CLUSTER KEYSLOT answers.
        for (key, slot) in [
            ("foo", 12_182),
            ("overdue:{orders}:scheduled", slot_of("orders")),
            ("{}foo", crc16(b"{}foo") % SLOTS),
            ("a{}{b}", crc16(b"a{}{b}") % SLOTS),
            ("a{{b}}", slot_of("{b")),
            ("a{b", crc16(b"a{b") % SLOTS),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }
}
