//! Names of locks, and whatever Redis may answer to those who want one.

use proptest::{prelude::*, sample::select};
use redis::Value;

use super::*;
use crate::{
    fuzz::{readable, run, text},
    redis::lying::{Liar, ints},
};

const TTL: Duration = Duration::from_secs(10);

fn lock(liar: &Liar) -> Lock {
    let options = LockOptions { ttl: TTL, wait: Duration::ZERO };
    Lock::new(liar.redis.clone(), "overdue", LockKey::new("nightly").unwrap(), options).unwrap()
}

#[test]
fn a_name_is_1_to_256_bytes_without_braces_and_control_characters() {
    run(600, prop_oneof![text(4), "[a-z{}:]{0,6}", "[a-z]{254,258}"], |text| {
        let sound = (1..=256).contains(&text.len())
            && !text.contains(|c: char| c.is_control() || c == '{' || c == '}');
        match LockKey::new(&text) {
            Ok(key) => {
                prop_assert!(sound);
                prop_assert_eq!(key.as_str(), text.as_str());
                let keys = keys::Keys::new("overdue", &key);
                prop_assert!(
                    keys.both().iter().all(|spelled| LockKey::is_spelled("overdue", spelled.as_bytes()))
                );
            }
            Err(error) => {
                prop_assert!(!sound);
                readable(&error.to_string())?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_lock_is_held_only_by_a_number_that_fences() {
    let liar = Liar::start();
    let lock = lock(&liar);
    let form =
        (0..2i64, prop_oneof![any::<i64>(), 0..1i64 << 54, -2..3i64]).prop_map(|(held, n)| ints([held, n]));
    // The error of a lock that is taken is no error of the reply.
    let acquire = async || match lock.acquire().await {
        Ok(held) => {
            let fence = held.fence();
            held.release().await.ok();
            Ok(Some(fence))
        }
        Err(LockError::Redis(error)) => Err(error),
        Err(taken) => {
            readable(&taken.to_string()).unwrap();
            Ok(None)
        }
    };
    liar.tell(&["lock_acquire"], &[form.boxed()], acquire, |fence| {
        assert!(fence.is_none_or(|fence| (1..1 << 53).contains(&fence)), "{fence:?}");
    });
}

#[test]
fn a_hold_is_extended_or_lost_or_there_is_an_error() {
    let liar = Liar::start();
    let hold = Hold::new(liar.redis.clone(), "overdue", LockKey::new("nightly").unwrap(), TTL);
    let form = select(&[1, 0, -1, 2][..]).prop_map(Value::Int).boxed();
    liar.tell(&["lock_extend"], &[form], async || hold.extend().await, drop);
}
