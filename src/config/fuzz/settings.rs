//! Settings that are right hold, from a file and from variables alike; numbers out of bounds and values at odds are
//! refused by the name of their key.

use proptest::{collection::btree_map, sample::select};

use super::*;

/// The kinds of values, each within the bounds of its keys.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Whole(i64, i64),
    Float(f64, f64),
    /// From and to, in ms.
    Time(u64, u64),
    Word(&'static [&'static str]),
    Text(&'static str),
}

const HOUR_MS: u64 = 3_600_000;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

/// Keys and what they can be; `Q` stands for a queue. None clashes with another.
const KEYS: [(&str, Kind); 28] = [
    ("redis.prefix", Kind::Text("[a-z0-9:._-]{1,12}")),
    ("redis.data_dir", Kind::Text("[ -~&&[^\"\\\\]]{1,20}")),
    ("redis.port", Kind::Whole(1, 65_535)),
    ("redis.connect_timeout", Kind::Time(1, YEAR_MS)),
    ("redis.response_timeout", Kind::Time(1, YEAR_MS)),
    ("redis.allow_eviction", Kind::Word(&["true", "false"])),
    ("http.listen", Kind::Word(&["127.0.0.1:0", "[::1]:7700", "127.8.8.8:65535", ""])),
    ("http.insecure", Kind::Word(&["true", "false"])),
    ("http.read_only", Kind::Word(&["true", "false"])),
    ("http.max_connections", Kind::Whole(1, 100_000)),
    ("http.idle_timeout", Kind::Time(1, YEAR_MS)),
    ("log.format", Kind::Word(&["text", "json"])),
    ("log.level", Kind::Word(&["off", "warn", "info", "trace", "warn,overdue=debug"])),
    ("serve.drain_timeout", Kind::Time(1, YEAR_MS)),
    ("queue.Q.poll_interval", Kind::Time(1, 100)),
    ("queue.Q.lease", Kind::Time(300, 24 * HOUR_MS)),
    ("queue.Q.batch_size", Kind::Whole(1, 1000)),
    ("queue.Q.concurrency", Kind::Whole(1, 10_000)),
    ("queue.Q.max_attempts", Kind::Whole(1, 4_294_967_295)),
    ("queue.Q.rate_limit", Kind::Whole(1, 1_000_000)),
    ("queue.Q.shards", Kind::Whole(1, 64)),
    ("queue.Q.dead_retention", Kind::Time(HOUR_MS, YEAR_MS)),
    ("queue.Q.backoff.initial", Kind::Time(0, 600_000)),
    ("queue.Q.backoff.factor", Kind::Float(1.0, 1e9)),
    ("queue.Q.backoff.jitter", Kind::Float(0.0, 1.0)),
    ("queue.Q.circuit_breaker.failures", Kind::Whole(0, 4_294_967_295)),
    ("queue.Q.order.timeout", Kind::Time(1, YEAR_MS)),
    ("queue.Q.order.intake_limit", Kind::Whole(1, 4_294_967_295)),
];

/// A value as a file has it, as a variable has it, and as the configuration shows it.
type Value = (String, String, toml::Value);

fn value(kind: Kind) -> BoxedStrategy<Value> {
    let quoted = |text: String| (toml::Value::from(text.clone()).to_string(), text.clone(), text.into());
    match kind {
        Kind::Whole(least, most) => prop_oneof![least..=most, Just(least), Just(most)]
            .prop_map(|n| (n.to_string(), n.to_string(), n.into()))
            .boxed(),
        Kind::Float(least, most) => {
            (least..=most).prop_map(|x| (format!("{x:?}"), x.to_string(), x.into())).boxed()
        }
        Kind::Time(least, most) => prop_oneof![least..=most, Just(least), Just(most)]
            .prop_map(Duration::from_millis)
            .prop_map(move |time| quoted(duration::format(time)))
            .boxed(),
        Kind::Word(words) if words.contains(&"true") => {
            select(words).prop_map(|word| (word.to_owned(), word.to_owned(), (word == "true").into())).boxed()
        }
        Kind::Word(words) => select(words).prop_map(move |word| quoted(word.to_owned())).boxed(),
        Kind::Text(pattern) => pattern.prop_map(quoted).boxed(),
    }
}

fn setting() -> impl Strategy<Value = (String, Value)> {
    let queue = select(&["orders", "eu", "a-b", "x_1", "0"][..]);
    (select(&KEYS[..]), queue)
        .prop_flat_map(|((key, kind), queue)| (Just(key.replace('Q', queue)), value(kind)))
}

/// Some settings, and which of them stand in variables.
fn settings() -> impl Strategy<Value = Vec<(String, Value, bool)>> {
    let settings = proptest::collection::vec((setting(), any::<bool>()), 0..8);
    settings.prop_map(|settings| {
        let settings: BTreeMap<_, _> =
            settings.into_iter().map(|((key, value), env)| (key, (value, env))).collect();
        settings.into_iter().map(|(key, (value, env))| (key, value, env)).collect()
    })
}

fn in_file(key: &str, (text, ..): &Value) -> String {
    format!("{key} = {text}\n")
}

fn as_variable(key: &str, (_, text, _): &Value) -> (String, String) {
    (format!("OVERDUE_{}", key.to_uppercase().replace('.', "__")), text.clone())
}

#[test]
fn what_is_set_is_what_holds_wherever_it_is_set() {
    let place = Place::new();
    run(60, settings(), |settings| {
        let all: String = settings.iter().map(|(key, value, _)| in_file(key, value)).collect();
        let config =
            place.load(all.as_bytes(), &[]).map_err(|error| TestCaseError::fail(error.to_string()))?;
        check(&config)?;

        let shown: toml::Value = toml::from_str(&config.to_toml()).unwrap();
        for (key, (.., expected), _) in &settings {
            let found = key.split('.').try_fold(&shown, |table, part| table.get(part));
            prop_assert_eq!(found, Some(expected), "{}", key);
        }
        let again = place.load(config.to_toml().as_bytes(), &[]).unwrap();
        prop_assert_eq!(&Config { queues_configured: config.queues_configured, ..again }, &config);

        let split = |env: bool| settings.iter().filter(move |(.., in_env)| *in_env == env);
        let file: String = split(false).map(|(key, value, _)| in_file(key, value)).collect();
        let env: Vec<_> = split(true).map(|(key, value, _)| as_variable(key, value)).collect();
        prop_assert_eq!(place.load(file.as_bytes(), &env).unwrap(), config);
        Ok(())
    });
}

#[test]
fn numbers_and_times_out_of_bounds_are_refused_by_their_key() {
    let place = Place::new();
    let wild = (select(&KEYS[..]), prop_oneof![any::<i64>(), -2..3i64, 900..1100i64, 64_000..110_000i64]);
    run(150, wild, |((key, kind), number)| {
        let key = key.replace('Q', "eu");
        let (text, is_sound) = match kind {
            Kind::Whole(least, most) => (number.to_string(), (least..=most).contains(&number)),
            Kind::Time(least, most) => {
                let ms = number.unsigned_abs() % (200 * YEAR_MS);
                let text = format!("'{}'", duration::format(Duration::from_millis(ms)));
                // What is at odds with another key is refused under the name of one of them.
                (text, (least..=most.max(ms.min(YEAR_MS))).contains(&ms))
            }
            _ => return Ok(()),
        };
        match place.load(format!("{key} = {text}\n").as_bytes(), &[]) {
            Ok(config) => {
                prop_assert!(is_sound || matches!(kind, Kind::Time(..)), "{key} = {text}");
                check(&config)?;
            }
            Err(error) => {
                prop_assert!(!is_sound || matches!(kind, Kind::Time(..)), "{key} = {text}: {error}");
                place.check(&error)?;
                prop_assert!(error.to_string().contains("overdue.toml:1:"), "{error}");
            }
        }
        Ok(())
    });
}

#[test]
fn values_of_another_type_are_refused_where_they_stand() {
    let place = Place::new();
    let wrong = select(
        &["1", "-1", "1.5", "true", "'x'", "[]", "['x']", "{}", "{ x = 1 }", "1979-05-27", "inf", "nan"][..],
    );
    run(
        150,
        (btree_map(select(&KEYS[..]).prop_map(|(key, _)| key.replace('Q', "eu")), wrong, 1..3), "\n{0,3}"),
        |(keys, space)| {
            let file: String = keys.iter().map(|(key, value)| format!("{space}{key} = {value}\n")).collect();
            match place.load(file.as_bytes(), &[]) {
                Ok(config) => check(&config)?,
                Err(error) => {
                    place.check(&error)?;
                    let message = error.to_string();
                    let line: Option<usize> = message
                        .split_once("overdue.toml:")
                        .and_then(|(_, rest)| rest.split(':').next()?.parse().ok());
                    let (line, lines) = (line.unwrap_or(0), file.lines().collect::<Vec<_>>());
                    prop_assert!(
                        lines.get(line - 1).is_some_and(|line| line.contains(" = ")),
                        "{message} of {file}"
                    );
                }
            }
            Ok(())
        },
    );
}
