//! `overdue reconcile`: a queue beside a file that says what should be in it.

use std::{fmt::Write as _, process::Stdio};

use overdue::queue::{Expected, Mode, Registration};
use rand::seq::SliceRandom as _;
use serde_json::Value;

use crate::support::{RedisServer, Rig, T0, id, process::Place, registration};

/// 2100-01-01T00:00:00Z.
const FAR: i64 = 4_102_444_800_000;

struct Shop {
    rig: Rig,
    place: Place,
}

impl Shop {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let url = RedisServer::shared().url();
        let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.{}]\n", rig.name()));
        Self { rig, place }
    }

    async fn holds(&self, all: &[Registration]) {
        self.rig.schedule(all, Mode::Replace, Expected::Anything).await.expect("registered");
    }

    /// The exit code, and how many were missing, past, shifted, extra, dead and repaired.
    fn reconcile(&self, file: &str, flags: &[&str]) -> (i32, [u64; 6]) {
        let name = self.rig.name().to_string();
        let ran = self.place.run(&[&["reconcile", &name, "--from", file, "-o", "json"], flags].concat());
        let said: Value = serde_json::from_str(&ran.stdout()).unwrap_or_else(|_| panic!("{}", ran.stderr()));
        let count = |word: &str| said["summary"][word].as_u64().expect("a number");
        (ran.code(), ["missing", "past", "shifted", "extra", "dead", "repaired"].map(count))
    }

    fn export(&self) -> String {
        self.place.run(&["export", self.rig.name().as_str()]).ok()
    }
}

fn far(number: usize) -> Registration {
    registration(&format!("order-{number}"), FAR + number as i64, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_its_queue_agree() {
    let shop = Shop::new().await;
    shop.holds(&(0..2500).map(far).collect::<Vec<_>>()).await;
    shop.rig.leased("in flight", "p").await;
    shop.place.write("all.ndjson", &shop.export());
    assert_eq!(shop.reconcile("all.ndjson", &[]), (0, [0; 6]));
    assert_eq!(shop.reconcile("all.ndjson", &["--repair"]), (0, [0; 6]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_is_found_and_mended_in_whatever_order_the_file_is() {
    const COUNT: usize = 100_000;
    let shop = Shop::new().await;
    // The file has all; the queue lacks each 300th, has each 300th at another time, and as many that are not in the file.
    let mut held = Vec::with_capacity(COUNT);
    let mut lines: Vec<String> = Vec::with_capacity(COUNT);
    for number in 0..COUNT {
        let order = far(number);
        lines.push(format!("order-{number},{}", FAR + number as i64));
        match number % 300 {
            0 => {}
            1 => held.push(registration(order.id.as_str(), FAR - 1, "")),
            2 => held.extend([order, registration(&format!("extra-{number}"), FAR, "")]),
            _ => held.push(order),
        }
    }
    shop.holds(&held).await;
    lines.shuffle(&mut rand::rng());
    shop.place.write("truth.csv", &format!("id,due_at\n{}\n", lines.join("\n")));

    let (missing, shifted, extra) = (334, 334, 334);
    assert_eq!(shop.reconcile("truth.csv", &[]), (1, [missing, 0, shifted, extra, 0, 0]));
    let all = missing + shifted + extra;
    assert_eq!(shop.reconcile("truth.csv", &["--repair"]), (0, [missing, 0, shifted, extra, 0, all]));
    assert_eq!(shop.reconcile("truth.csv", &[]), (0, [0; 6]));
    let counts = shop.rig.counts().await.expect("counted");
    assert_eq!(counts.scheduled as usize, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_passed_is_in_flight_or_dead_is_told_apart() {
    let shop = Shop::new().await;
    shop.rig.leased("held", "p").await;
    shop.rig.buried("dead", "p").await;
    shop.holds(&[far(1)]).await;
    let mut truth = String::new();
    for (name, at) in [("held", FAR), ("dead", FAR), ("handled", T0), ("order-1", FAR + 1), ("lost", FAR)] {
        let _ = writeln!(truth, r#"{{"id":"{name}","due_at":{at},"payload":{{"of":"{name}"}}}}"#);
    }
    shop.place.write("truth.ndjson", &truth);
    assert_eq!(shop.reconcile("truth.ndjson", &["--repair"]), (1, [1, 1, 0, 0, 1, 1]));
    let shown = shop.rig.shown("lost").await.expect("it is registered");
    assert_eq!(shown.payload.expect("with its payload").as_str(), r#"{"of":"lost"}"#);
    assert!(shop.rig.shown("handled").await.is_none(), "who was handled is not handled again");
    assert_eq!(shop.reconcile("truth.ndjson", &["--repair", "--include-past"]).1, [1, 0, 0, 0, 1, 1]);
    assert!(shop.rig.shown("handled").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_short_empties_no_queue() {
    let shop = Shop::new().await;
    let all: Vec<Registration> = (0..1000).map(far).collect();
    shop.holds(&all).await;
    shop.place.write("cut.csv", "id,due_at\n");
    let name = shop.rig.name().to_string();
    let run = |flags: &[&str]| shop.place.run(&[&["reconcile", &name, "--from", "cut.csv"], flags].concat());
    run(&["--repair"]).fails(1, &["1000 of 1000", "--yes", "--keep-extra"]);
    assert_eq!(shop.rig.counts().await.unwrap().scheduled, 1000);
    assert_eq!(run(&["--repair", "--keep-extra"]).code(), 1);
    assert_eq!(shop.rig.counts().await.unwrap().scheduled, 1000);
    run(&["--repair", "--yes"]).ok();
    assert_eq!(shop.rig.counts().await.unwrap().scheduled, 0);

    // A deadline is not all that an order is.
    let of_orders = [("OVERDUE_QUEUE__ORDERS__HANDLER__TYPE", "order")];
    let repair = ["reconcile", "orders", "--from", "cut.csv", "--repair"];
    shop.place.run_with(&repair, Stdio::null(), &of_orders).fails(2, &["queue of orders", "order create"]);

    for (text, words) in [
        ("id,due_at\nx,1767225600\n", ["line 2", "seconds"]),
        ("{\"id\":\"x\",\"delay\":\"1h\"}\n", ["line 1", "due_at"]),
    ] {
        let input = shop.place.path("bad");
        std::fs::write(&input, text).unwrap();
        let stdin = Stdio::from(std::fs::File::open(&input).unwrap());
        let ran = shop.place.run_with(&["reconcile", &name, "--from", "-"], stdin, &[]);
        ran.fails(1, &words);
    }
    assert!(shop.rig.show(&id("x")).await.unwrap().is_none());
}
