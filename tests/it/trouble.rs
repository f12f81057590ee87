//! What Redis can do to a caller: wrong types, a full memory, scripts, connections and pauses of others.

use std::time::Duration;

use overdue::{
    ServerTime,
    error::{Error, Result, TroubleKind},
    queue::{Expected, Lease, Mode, Queue, Settled, State},
    redis::{Redis, Timeouts},
};

use crate::support::{
    LEASE, LEASE_MS, NOTHING, PARTS, PATIENT, RedisServer, Rig, STREAM, T0, due, eventually, foreign_client,
    id, leases, many, names, registration, rejected, retry_of, text, trouble,
};

/// A queue with something in each of its nine keys, and the lease of `leased`.
async fn furnished(rig: &Rig) -> Lease {
    rig.put("fired", T0, "p").await;
    rig.when(T0).fire(STREAM, 1, None).await.unwrap();
    rig.buried("dead", "p").await;
    let lease = rig.leased("leased", "p").await.lease();
    rig.put("scheduled", T0, "p").await;
    lease
}

/// All verbs that write with a guard in front, by name. Keys that are as they should be would change.
async fn guarded(queue: &Queue, lease: &Lease) -> Vec<(&'static str, Result<()>)> {
    let held = std::slice::from_ref(lease);
    vec![
        ("claim", queue.claim(10, LEASE).await.map(drop)),
        ("fire_stream", queue.fire(STREAM, 10, None).await.map(drop)),
        ("ack", queue.ack(held).await.map(drop)),
        ("retry", queue.retry(&[retry_of(lease, 0)], 9).await.map(drop)),
        ("release", queue.release(held).await.map(drop)),
        ("extend", queue.extend(&[lease.token], LEASE * 2).await.map(drop)),
        ("extend_ids", queue.extend_ids(held, LEASE * 2).await.map(drop)),
        ("bury", queue.bury(&[rejected(lease)]).await.map(drop)),
        ("reject", queue.reject().await.map(drop)),
        ("cancel", queue.cancel(&[id("scheduled"), id("leased")]).await.map(drop)),
        ("retry_dead", queue.retry_dead(&[id("dead")]).await.map(drop)),
        ("trim_dead", queue.trim_dead(LEASE).await.map(drop)),
        ("delete_dead", queue.delete_dead(&[id("dead")]).await.map(drop)),
    ]
}

/// The verbs that only check what they touch: each either works or names the key.
async fn unguarded(queue: &Queue) -> Vec<(&'static str, Result<()>)> {
    let mut answers =
        vec![("counts", queue.counts().await.map(drop)), ("show", queue.show(&id("leased")).await.map(drop))];
    for state in [State::Scheduled, State::Leased, State::Dead] {
        answers.push(("list", queue.list(state, 10, None).await.map(drop)));
    }
    answers
}

fn assert_names(verb: &str, answer: Result<()>, wrong: &str) {
    match answer {
        Err(Error::WrongType { key, expected, found }) => {
            assert_eq!((key.as_str(), found.as_str()), (wrong, "string"), "{verb}");
            assert!(["zset", "hash", "stream"].contains(&expected), "{verb}: {expected}");
        }
        other => panic!("{verb} with a wrong {wrong}: {other:?}"),
    }
}

impl Rig {
    async fn dump(&self) -> Vec<Option<Vec<u8>>> {
        let mut dumps = Vec::new();
        for part in PARTS {
            dumps.push(self.on_key("DUMP", part, NOTHING).await);
        }
        dumps
    }
}

#[tokio::test]
async fn a_key_of_a_wrong_type_is_named_and_nothing_is_lost() {
    for part in PARTS {
        let rig = Rig::new().await;
        let lease = furnished(&rig).await;
        let before = rig.dump().await;
        assert!(before.iter().all(Option::is_some), "every key is in use");

        let (key, aside) = (rig.key(part), rig.key("aside"));
        rig.admin(&["RENAME", &key, &aside]).await;
        rig.admin(&["SET", &key, "not overdue's"]).await;
        let queue = rig.when(T0);
        if part == "fired" {
            assert_names("fire_stream", queue.fire(STREAM, 10, None).await.map(drop), &key);
        } else {
            for (verb, answer) in guarded(&queue, &lease).await {
                assert_names(verb, answer, &key);
            }
        }
        for (verb, answer) in unguarded(&queue).await {
            if answer.is_err() {
                assert_names(verb, answer, &key);
            }
        }
        if ["scheduled", "payload", "leased", "attempts", "dead"].contains(&part) {
            let both = [registration("scheduled", T0 + 1, "q"), registration("new", T0 + 1, "q")];
            let answer = queue.schedule(&both, Mode::Replace, Expected::Anything).await;
            assert_names("schedule", answer.map(drop), &key);
        }
        if ["scheduled", "leased", "attempts", "dead"].contains(&part) {
            let answer = queue.reschedule(&id("scheduled"), due(T0 + 1), Expected::Anything).await;
            assert_names("reschedule", answer.map(drop), &key);
        }

        let other = Rig::new().await;
        other.put("a", T0, "p").await;
        assert_eq!(text(other.claim_one(T0).await.payload.as_ref()), "p", "other queues go on");

        rig.admin(&["RENAME", &aside, &key]).await;
        assert!(rig.dump().await == before, "something changed beside a wrong {part}");
        assert_eq!(rig.claimed(T0).await, ["scheduled"], "and it goes on once the key is back");
    }
}

#[tokio::test]
async fn a_full_redis_refuses_new_deadlines_and_finishes_the_old_ones() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.schedule_all(&(0..6).map(|n| registration(&format!("n{n}"), T0, "p")).collect::<Vec<_>>()).await;
    rig.zadd("seconds", 1_767_225_600).await;
    let limit = async |bytes: &str| {
        rig.admin(&["CONFIG", "SET", "maxmemory", bytes]).await;
    };
    limit("1").await;

    let queue = rig.when(T0);
    for payload in ["", "p"] {
        let bulk = [registration("n0", T0 + 9, payload), registration("new", T0 + 9, payload)];
        let answer = queue.schedule(&bulk, Mode::Replace, Expected::Anything).await;
        assert_eq!(trouble(answer), TroubleKind::OutOfMemory);
    }
    let moved = queue.reschedule(&id("n0"), due(T0 + 9), Expected::Anything).await;
    assert_eq!(trouble(moved), TroubleKind::OutOfMemory);
    assert_eq!((rig.members("scheduled").await.len(), rig.payloads().await), (7, 6), "nothing was written");

    let held = leases(&rig.claim_at(T0, 6).await);
    assert_eq!(held.len(), 6);
    assert_eq!(queue.extend(&[held[0].token], LEASE).await.unwrap(), [Settled::Done]);
    assert_eq!(queue.ack(&held[..1]).await.unwrap(), [Settled::Done]);
    queue.retry(&[retry_of(&held[1], 0)], 9).await.unwrap();
    assert_eq!(queue.release(&held[2..3]).await.unwrap(), [Settled::Done]);
    assert_eq!(queue.bury(&[rejected(&held[3])]).await.unwrap(), [Settled::Done]);
    assert_eq!(queue.reject().await.unwrap(), 1);
    queue.cancel(&[id("n4")]).await.unwrap();
    assert_eq!(queue.fire(STREAM, 1, None).await.unwrap().count, 1);
    assert_eq!(rig.claim_at(T0 + LEASE_MS, 9).await.deliveries.len(), 2, "a lost lease and a retry");
    assert_eq!(queue.retry_dead(&[id("n3")]).await.unwrap(), [Settled::Done]);
    assert_eq!(queue.delete_dead(&[id("seconds")]).await.unwrap(), [Settled::Done]);

    limit("0").await;
    rig.put("new", T0, "").await;
    assert_eq!(names(&rig.claim_at(T0, 9).await.deliveries), ["n3", "new"]);
}

#[tokio::test]
async fn a_replica_says_readonly_and_works_again_as_a_master() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.put("a", T0, "").await;
    let replicate = async |host: &str, port: &str| {
        rig.admin(&["REPLICAOF", host, port]).await;
    };
    replicate("127.0.0.1", "1").await;
    assert_eq!(trouble(rig.when(T0).claim(1, LEASE).await), TroubleKind::ReadOnly);
    let again = rig.schedule(&many(1), Mode::Replace, Expected::Anything).await;
    assert_eq!(trouble(again), TroubleKind::ReadOnly);
    rig.admin(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    assert_eq!(trouble(rig.when(T0).claim(1, LEASE).await), TroubleKind::MasterDown);
    replicate("NO", "ONE").await;
    assert_eq!(rig.claimed(T0).await, ["a"]);
}

#[tokio::test]
async fn a_server_that_loads_its_data_says_so() {
    let mut server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.schedule_all(&many(1000)).await;
    rig.admin(&["DEBUG", "POPULATE", "50000"]).await;
    rig.admin(&["SAVE"]).await;
    server.kill9();
    // Half a minute of loading, with a look at the connections every 50 keys, until the delay is taken away.
    server.restart_with(&["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"]);
    let rig = Rig::with(&server, rig.clone()).await;
    let error = eventually("it answers", async || match rig.counts().await.unwrap_err() {
        Error::Redis(trouble) if trouble.kind == TroubleKind::Unreachable => None,
        error => Some(error),
    })
    .await;
    assert_eq!(trouble::<()>(Err(error)), TroubleKind::Loading);
    rig.admin(&["CONFIG", "SET", "key-load-delay", "0"]).await;
    eventually("it is loaded", async || rig.counts().await.ok()).await;
    assert_eq!(rig.claim_at(T0, 1000).await.deliveries.len(), 1000);
}

#[tokio::test]
async fn a_script_flush_is_not_noticed() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    for name in ["a", "b"] {
        rig.put(name, T0, "").await;
        rig.admin(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(rig.claimed(T0).await, [name]);
    }
}

#[tokio::test]
async fn somebody_s_endless_script_is_called_busy_until_it_is_killed() {
    let server = RedisServer::start_with(&["--busy-reply-threshold", "20"]);
    let rig = Rig::on(&server).await;
    rig.put("a", T0, "").await;
    let mut other = foreign_client(&server).await;
    let endless = tokio::spawn(async move {
        redis::cmd("EVAL").arg("while true do end").arg(0).query_async::<()>(&mut other).await
    });
    let refused =
        async || rig.when(T0 - 1).claim(1, LEASE).await.err().map(|error| trouble::<()>(Err(error)));
    assert_eq!(eventually("Redis refuses", refused).await, TroubleKind::Busy);
    rig.admin(&["SCRIPT", "KILL"]).await;
    endless.await.unwrap().unwrap_err();
    assert_eq!(rig.claimed(T0).await, ["a"]);
}

#[tokio::test]
async fn a_connection_that_was_killed_is_replaced() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.put("a", T0, "").await;
    rig.admin(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    assert_eq!(trouble(rig.counts().await), TroubleKind::Unreachable, "the call is not repeated");
    assert_eq!(rig.claimed(T0).await, ["a"]);
}

#[tokio::test]
async fn a_server_that_died_is_unreachable_until_it_is_back() {
    let mut server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.put("a", T0, "").await;
    server.kill9();
    for _ in 0..2 {
        let error = rig.counts().await.unwrap_err();
        assert_eq!(trouble::<()>(Err(error)), TroubleKind::Unreachable);
    }
    server.restart();
    assert_eq!(rig.when(T0).counts().await.unwrap().scheduled, 0, "it kept nothing, and the handle works");
}

/// The queue of a rig as somebody sees it who waits 100 ms for an answer.
fn impatient(server: &RedisServer, rig: &Rig) -> Queue {
    let timeouts = Timeouts { response: Duration::from_millis(100), ..PATIENT };
    let redis = Redis::open(&server.root_url(), timeouts).expect("a valid url");
    Queue::new(redis, "overdue", rig.name().clone())
}

#[tokio::test]
async fn a_server_that_hangs_times_out_and_the_next_call_works() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let impatient = impatient(&server, &rig);
    rig.put("a", T0, "").await;
    // Connected before: to connect it is patient.
    eventually("it answers", async || impatient.counts().await.ok()).await;
    server.signal("STOP");
    assert_eq!(trouble(impatient.counts().await), TroubleKind::Timeout);
    server.signal("CONT");
    let counts = eventually("it answers", async || impatient.counts().await.ok()).await;
    assert_eq!(counts.scheduled, 1);
}

#[tokio::test]
async fn a_paused_server_times_out_and_the_next_call_works() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let impatient = impatient(&server, &rig);
    rig.admin(&["CLIENT", "PAUSE", "600000", "WRITE"]).await;
    let answer = impatient.schedule(&many(1), Mode::Replace, Expected::Anything).await;
    assert_eq!(trouble(answer), TroubleKind::Timeout);
    rig.admin(&["CLIENT", "UNPAUSE"]).await;
    eventually("it answers", async || {
        impatient.schedule(&many(1), Mode::Replace, Expected::Anything).await.ok()
    })
    .await;
    assert_eq!(rig.claimed(T0).await, ["n0"], "once, whether the first call ran or not");
}

#[tokio::test]
async fn a_user_without_rights_or_password_is_told_so() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.admin(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read"]).await;
    let as_user = |password: &str| {
        let url = format!("{}?user=reader&pass={password}", server.root_url());
        let redis = overdue::redis::Redis::open(&url, PATIENT).unwrap();
        Queue::new(redis, "overdue", rig.name().clone())
    };
    assert_eq!(trouble(as_user("secret").claim(1, LEASE).await), TroubleKind::NoPerm);
    assert_eq!(trouble(as_user("wrong").claim(1, LEASE).await), TroubleKind::Auth);
}

#[tokio::test]
async fn a_right_that_is_missing_inside_a_script_is_named() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.admin(&["ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+@all", "-zadd"]).await;
    let url = server.root_url().replace("redis.sock", "redis.sock?user=clerk&pass=secret");
    let clerk = Queue::new(Redis::open(&url, PATIENT).unwrap(), "overdue", rig.name().clone());
    assert_eq!(
        trouble(clerk.schedule(&many(1), Mode::Replace, Expected::Anything).await),
        TroubleKind::NoPerm
    );
}

#[tokio::test]
async fn a_right_that_is_missing_in_the_middle_of_a_claim_loses_nothing() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let url = server.root_url().replace("redis.sock", "redis.sock?user=clerk&pass=secret");
    let clerk = Queue::new(Redis::open(&url, PATIENT).unwrap(), "overdue", rig.name().clone());
    rig.put("a", T0, "p").await;
    let mut now = T0;
    for command in ["-zadd", "-hset"] {
        rig.admin(&["ACL", "SETUSER", "clerk", "reset", "on", ">secret", "~*", "+@all", command]).await;
        let claim = clerk.at(ServerTime::from_ms(now)).claim(10, LEASE).await;
        assert_eq!(trouble(claim), TroubleKind::NoPerm, "{command}");
        now += LEASE_MS; // what is half claimed comes back when its lease ends
        let delivery = rig.claim_one(now).await;
        assert_eq!(text(delivery.payload.as_ref()), "p", "{command}, from scheduled");

        now += LEASE_MS;
        let claim = clerk.at(ServerTime::from_ms(now)).claim(10, LEASE).await;
        assert_eq!(trouble(claim), TroubleKind::NoPerm, "{command}");
        now += LEASE_MS;
        let delivery = rig.claim_one(now).await;
        assert_eq!(text(delivery.payload.as_ref()), "p", "{command}, from a lost lease");
        rig.when(now).retry(&[retry_of(&delivery.lease(), 0)], 9).await.unwrap();
    }
}
