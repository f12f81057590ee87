//! Files that a private server leaves behind: whatever stands in them, what is shown of it is short and clean.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path},
};

use proptest::{collection::vec, prelude::*};
use redis::{ConnectionAddr, IntoConnectionInfo as _};
use tempfile::TempDir;

use super::server::{pid, tail, url_of};
use crate::fuzz::{bytes, run};

#[test]
fn what_a_log_ends_with_is_shown_line_by_line() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("redis.log");
    run(150, (vec(bytes(20), 0..30), 0..2000u64), |(lines, offset)| {
        std::fs::write(&file, lines.join(&b'\n')).unwrap();
        let shown = tail(&file, offset).unwrap();
        prop_assert!(shown.lines().count() <= 10 && !shown.replace('\n', "").contains(char::is_control));
        prop_assert!(shown.len() <= 8 * 4096);
        Ok(())
    });
}

#[test]
fn a_process_id_is_a_number_or_none() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("redis.pid");
    run(200, prop_oneof![bytes(3), "[0-9]{1,12}\n?".prop_map(String::into_bytes)], |bytes| {
        std::fs::write(&file, &bytes).unwrap();
        if let Some(pid) = pid(&file) {
            prop_assert!(pid.bytes().all(|byte| byte.is_ascii_digit()));
            prop_assert!(String::from_utf8(bytes).unwrap().contains(&pid));
        }
        Ok(())
    });
}

#[test]
fn the_url_of_a_socket_leads_back_to_it() {
    run(400, vec(1..=255u8, 1..20), |name| {
        let path = Path::new("/").join(OsStr::from_bytes(&name));
        // As a data directory is made absolute before it becomes a url.
        prop_assume!(!path.components().any(|part| part == Component::ParentDir));
        let path = std::path::absolute(path).unwrap();
        let url = url_of(&path);
        prop_assert!(url.is_ascii() && !url.contains(char::is_control));
        // The client decodes to text: what is no UTF-8 cannot be reached.
        if path.to_str().is_some() {
            match url.as_str().into_connection_info().map(|info| info.addr().clone()) {
                Ok(ConnectionAddr::Unix(found)) => prop_assert_eq!(found, path),
                other => prop_assert!(false, "{url}: {other:?}"),
            }
        }
        Ok(())
    });
}
