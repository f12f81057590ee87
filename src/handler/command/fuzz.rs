//! What a command writes to stderr: its end is kept, however it comes, and is fit for a terminal.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::fuzz::{bytes, run};

#[test]
fn the_tail_is_the_end_of_what_was_written() {
    run(200, vec((bytes(8), 1..60usize), 0..6), |writes| {
        let (mut tail, mut all) = (Tail::default(), Vec::new());
        for (piece, times) in writes {
            let piece = piece.repeat(times);
            tail.push(&piece);
            all.extend(piece);
        }
        let end = &all[all.len().saturating_sub(TAIL_BYTES)..];
        prop_assert_eq!(tail.0.as_slice(), end);
        let text = tail.text();
        prop_assert!(!text.contains(char::is_control));
        prop_assert_eq!(text, printable(end.trim_ascii()));
        Ok(())
    });
}
