//! The hot functions of the process alone: what it does for an id beside waiting for Redis.
//!
//! ```text
//! cargo bench                                   # all
//! cargo bench -- claim                          # those with `claim` in their name
//! cargo bench -- --save-baseline before         # then change something, and
//! cargo bench -- --baseline before              # see what that did
//! ```
//!
//! Batch sizes are in the names. The verbs go through a stand-in for Redis that answers at once, so they are the whole way
//! of a call through this process: building it, sending it, and reading the answer.

mod stand_in;

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use overdue::{
    DueAt, Id, Payload, QueueName, Token,
    config::Secret,
    duration,
    handler::webhook::Signed,
    queue::{Cursor, Due, Expected, Lease, Mode, Queue, Registration, TraceParent},
    redis::{Redis, Timeouts},
};
use rmp::encode::{write_array_len, write_map_len, write_str};
use stand_in::{StandIn, array, bulk, integer};
use tokio::runtime::Runtime;

const NOW_MS: i64 = 1_767_225_600_000;
const LEASE: Duration = Duration::from_secs(10);

fn id(number: usize) -> Id {
    format!("order-{number:07x}").parse().expect("a valid id")
}

fn queue(stand_in: &StandIn) -> Queue {
    let redis = Redis::open(&stand_in.url(), Timeouts::default()).expect("a valid url");
    Queue::new(redis, "overdue", QueueName::new("orders").expect("a valid name"))
}

/// A batch as `claim` packs it.
fn packed(entries: &[String], payloads: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_array_len(&mut bytes, 2).expect("memory");
    write_array_len(&mut bytes, entries.len() as u32).expect("memory");
    entries.iter().for_each(|text| write_str(&mut bytes, text).expect("memory"));
    write_map_len(&mut bytes, payloads.len() as u32).expect("memory");
    for (id, payload) in payloads {
        write_str(&mut bytes, id).expect("memory");
        write_str(&mut bytes, payload).expect("memory");
    }
    bytes
}

/// What a claim of so many ids answers, with 100 bytes of payload each or without.
fn claimed(count: usize, with_payloads: bool) -> Vec<u8> {
    let (ids, score) = (|| (0..count).map(|n| id(n).to_string()), NOW_MS.to_string());
    let entries: Vec<_> = ids().flat_map(|id| [id, score.clone()]).collect();
    let payloads: Vec<_> = ids().filter(|_| with_payloads).map(|id| (id, "p".repeat(100))).collect();
    array([
        integer(NOW_MS * 1000),
        integer(NOW_MS * 1000),
        b"$-1\r\n".to_vec(),
        integer(0),
        integer(1),
        bulk(&packed(&entries, &payloads)),
        array([]),
        array([]),
        b"$-1\r\n".to_vec(),
        bulk(b"1 1 1767225600000"),
    ])
}

fn verbs(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads");
    for count in [100, 500, 1000] {
        let mut group = criterion.benchmark_group("verbs");
        group.throughput(Throughput::Elements(count as u64));
        for (name, with_payloads) in [("claim", false), ("claim with payloads", true)] {
            let stand_in = StandIn::answering(claimed(count, with_payloads));
            let queue = queue(&stand_in);
            group.bench_function(format!("{name}, {count} ids"), |bencher| {
                bencher.to_async(&runtime).iter(async || queue.claim(count, LEASE).await.expect("claimed"));
            });
        }

        let stand_in = StandIn::answering(array((0..count).map(|_| integer(1))));
        let queue_of_acks = queue(&stand_in);
        let leases: Vec<Lease> = (0..count).map(|n| Lease { id: id(n), token: Token::new(7) }).collect();
        group.bench_function(format!("ack, {count} ids"), |bencher| {
            bencher.to_async(&runtime).iter(async || queue_of_acks.ack(&leases).await.expect("acked"));
        });

        let created = (0..count).flat_map(|_| [integer(1), integer(NOW_MS), integer(0)]);
        let stand_in = StandIn::answering(array(created));
        let queue_of_new = queue(&stand_in);
        let due = Due::At(DueAt::from_ms(NOW_MS).expect("a valid deadline"));
        let new: Vec<Registration> =
            (0..count).map(|n| Registration { id: id(n), due, payload: None }).collect();
        group.bench_function(format!("schedule, {count} ids"), |bencher| {
            bencher.to_async(&runtime).iter(async || {
                queue_of_new.schedule(&new, Mode::Replace, Expected::Anything).await.expect("registered")
            });
        });
        group.finish();
    }
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("values");
    group.bench_function("id", |bencher| bencher.iter(|| Id::new(black_box("order-0000042"))));
    group.bench_function("duration", |bencher| bencher.iter(|| duration::parse(black_box("1h30m"))));
    group.bench_function("time in RFC 3339", |bencher| {
        bencher.iter(|| black_box("2026-01-01T14:30:00.250Z").parse::<DueAt>());
    });
    group.bench_function("cursor", |bencher| {
        bencher.iter(|| black_box("1767225600000_6f726465722d34320a").parse::<Cursor>());
    });
    group.bench_function("traceparent", |bencher| {
        bencher.iter(|| {
            TraceParent::parse(black_box("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
        });
    });
    let payload = Payload::new(r#"{"amount":"100.00","currency":"EUR","items":[1,2,3]}"#).expect("valid");
    group.bench_function("payload to JSON", |bencher| bencher.iter(|| black_box(&payload).to_json()));
    group.finish();
}

fn webhooks(criterion: &mut Criterion) {
    let secrets = [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a valid secret")];
    let body = [b'x'; 256];
    let signed = Signed { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s: 1_614_265_330, body: &body };
    criterion.bench_function("webhook signature, 256 bytes", |bencher| {
        bencher.iter(|| black_box(&signed).signature(black_box(&secrets)));
    });
}

criterion_group!(hot, verbs, values, webhooks);
criterion_main!(hot);
