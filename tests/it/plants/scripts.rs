//! The scripts as Redis gets them, with a bug in one of them, or with a death in any.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::list::Plant;

/// What the others are prepended with.
const LIB: &str = "lib";
/// Where all of them call Redis.
const CALL: &str = "local call = redis.call\n";
/// A script dies before its nth write, as Redis lets it: what it wrote before stays. How many writes it has left is in a
/// key of its own; without one it does not die.
const DYING_CALL: &str = r"
local WRITES = { ZADD = 1, ZREM = 1, HSET = 1, HSETNX = 1, HDEL = 1, XADD = 1, XDEL = 1, LPUSH = 1, LREM = 1 }
local function call(name, ...)
  if WRITES[name] and redis.call('EXISTS', 'writes_left') == 1 and redis.call('DECR', 'writes_left') < 0 then
    error('it dies here')
  end
  return redis.call(name, ...)
end
";

/// A directory with all scripts of the queue, for `Redis::planting`. Without a plant they are as they are.
pub(super) fn composed(plant: Option<&Plant>) -> TempDir {
    compose(|name, text| match plant {
        Some(plant) if plant.script == name => plant.put_into(&text),
        _ => text,
    })
}

/// The same, and each of them can die.
pub(super) fn dying(plant: Option<&Plant>) -> TempDir {
    compose(|name, text| {
        let text = match plant {
            Some(plant) if plant.script == name => plant.put_into(&text),
            _ => text,
        };
        if name == LIB { replaced(&text, CALL, DYING_CALL, LIB) } else { text }
    })
}

fn compose(change: impl Fn(&str, String) -> String) -> TempDir {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lua");
    let read = |name: &str| {
        let text = fs::read_to_string(folder.join(name).with_extension("lua")).expect("a script");
        change(name, text)
    };
    let lib = read(LIB);
    let dir = tempfile::tempdir().expect("a temporary directory");
    for file in fs::read_dir(&folder).expect("the scripts") {
        let path = file.expect("a script").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        // Those of orders and locks have other keys, and other tests.
        if name != LIB && !name.starts_with("order_") && !name.starts_with("lock_") {
            let text = format!("{lib}{}", read(&name));
            fs::write(dir.path().join(name).with_extension("lua"), text).expect("written");
        }
    }
    dir
}

/// A plant whose place has gone, or become two, would prove nothing.
pub(super) fn replaced(text: &str, old: &str, new: &str, name: &str) -> String {
    let count = text.matches(old).count();
    assert_eq!(count, 1, "{name}: its place must be there once, not {count} times:\n{old}");
    text.replacen(old, new, 1)
}
