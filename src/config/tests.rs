mod webhook;

use std::{collections::BTreeMap, path::Path, path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Loads a file's text with environment variables, and nothing from the machine that the tests run on.
fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = TempDir::new().unwrap();
    super::load::load(&sources(&write(&directory, text), env), &[])
}

fn load_env(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    super::load::load(&Sources { env: owned(env), ..Sources::default() }, &[])
}

fn write(directory: &TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("overdue.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn sources(file: &Path, env: &[(&str, &str)]) -> Sources {
    Sources { file: Some(file.to_owned()), env: owned(env), ..Sources::default() }
}

fn owned(env: &[(&str, &str)]) -> BTreeMap<String, String> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn queue<'a>(config: &'a Config, name: &str) -> &'a QueueConfig {
    &config.queues[&QueueName::new(name).unwrap()]
}

fn names(config: &Config) -> Vec<&str> {
    config.queues.keys().map(QueueName::as_str).collect()
}

/// The error of a file, without the temporary directory.
fn file_error(text: &str) -> String {
    let error = load(text, &[]).unwrap_err().to_string();
    let start = error.find("overdue.toml").unwrap_or_else(|| panic!("no file in: {error}"));
    error[start..].to_owned()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = load_env(&[]).unwrap();
    assert_eq!(config.file, None);
    assert!(!config.queues_configured);
    assert_eq!(names(&config), ["orders"]);
    let redis = &config.redis;
    assert_eq!((redis.url.as_ref(), redis.port, redis.prefix.as_str()), (None, None, "overdue"));
    assert_eq!(redis.data_dir, Path::new("./overdue-data"));
    assert_eq!((redis.connect_timeout, redis.response_timeout), (3 * SECOND / 2, 5 * SECOND));
    assert_eq!(config.http.listen, "127.0.0.1:7700".parse().ok());
    assert_eq!(config.log, LogConfig { level: "info".to_owned(), format: LogFormat::Text });
    assert_eq!(config.serve.drain_timeout, 20 * SECOND);
    let orders = queue(&config, "orders");
    assert_eq!((orders.poll_interval, orders.lease), (SECOND / 10, 10 * SECOND));
    assert_eq!((orders.batch_size, orders.concurrency, orders.max_attempts), (500, 64, 10));
    let backoff = Backoff { initial: SECOND, max: 600 * SECOND, factor: 2.0, jitter: 0.2 };
    assert_eq!((&orders.backoff, &orders.handler), (&backoff, &HandlerConfig::Log));
    assert_eq!(orders.dead_retention, None);
}

#[test]
fn the_reference_is_itself_a_configuration() {
    let loaded = load(REFERENCE, &[]).unwrap();
    assert!(loaded.queues_configured);
    let defaults = load_env(&[]).unwrap();
    assert_eq!(Config { file: None, queues_configured: false, ..loaded }, defaults);
}

#[test]
fn commented_keys_of_the_reference_are_valid_when_uncommented() {
    let url = REFERENCE.replace("# url = ", "url = ");
    assert!(load(&url, &[]).unwrap().redis.url.is_some());
    let port = REFERENCE.replace("# port = ", "port = ");
    assert_eq!(load(&port, &[]).unwrap().redis.port, Some(6380));
    let retention = load(&REFERENCE.replace("# dead_retention = ", "dead_retention = "), &[]).unwrap();
    assert_eq!(queue(&retention, "orders").dead_retention, Some(30 * 24 * 3600 * SECOND));
}

#[test]
fn flag_over_environment_over_file_over_reference() {
    let directory = TempDir::new().unwrap();
    let text = "[redis]\nurl = 'redis://file'\nprefix = 'file'\n[log]\nformat = 'json'\n";
    let env = [("OVERDUE_REDIS__URL", "redis://env"), ("OVERDUE_REDIS__PREFIX", "env")];
    let mut sources = sources(&write(&directory, text), &env);
    let url = |sources: &Sources| super::load::load(sources, &[]).unwrap().redis.url.unwrap();
    assert_eq!(url(&sources).as_str(), "redis://env");
    sources.redis_url = Some("redis://flag".to_owned());
    assert_eq!(url(&sources).as_str(), "redis://flag");
    let config = super::load::load(&sources, &[]).unwrap();
    assert_eq!((config.redis.prefix.as_str(), config.log.format), ("env", LogFormat::Json));
    assert_eq!(config.log.level, "info");
    assert_eq!(config.file, sources.file);
}

#[test]
fn the_first_file_that_exists_is_taken() {
    let directory = TempDir::new().unwrap();
    let path = write(&directory, "[redis]\nprefix = 'found'\n");
    let missing = directory.path().join("none.toml");
    let search = [missing.to_str().unwrap(), path.to_str().unwrap(), "/"];
    let config = super::load::load(&Sources::default(), &search).unwrap();
    assert_eq!((config.redis.prefix.as_str(), config.file), ("found", Some(path.clone())));

    let error = super::load::load(&sources(&missing, &[]), &search).unwrap_err().to_string();
    assert!(error.contains("none.toml: No such file"), "{error}");
}

#[test]
fn a_queue_takes_from_the_template_what_it_leaves_out() {
    let text =
        "[queue.payments]\nlease = '30s'\nbackoff.max = '1h'\n[queue.mail-2.handler]\ntype = 'stream'\n";
    let config = load(text, &[("OVERDUE_QUEUE__PAYMENTS__BACKOFF__FACTOR", "3")]).unwrap();
    assert!(config.queues_configured);
    assert_eq!(names(&config), ["mail-2", "payments"]);
    let payments = queue(&config, "payments");
    let template = load_env(&[]).unwrap().queues.into_values().next().unwrap();
    let backoff = Backoff { max: 3600 * SECOND, factor: 3.0, ..template.backoff.clone() };
    assert_eq!(*payments, QueueConfig { lease: 30 * SECOND, backoff, ..template.clone() });
    assert_eq!(
        *queue(&config, "mail-2"),
        QueueConfig { handler: HandlerConfig::Stream { max_len: None }, ..template }
    );
}

#[test]
fn a_queue_can_be_named_by_an_empty_section_or_by_the_environment() {
    assert_eq!(names(&load("[queue.payments]\n", &[]).unwrap()), ["payments"]);
    let config = load_env(&[("OVERDUE_QUEUE__PAY-MENTS__BATCH_SIZE", "7")]).unwrap();
    assert_eq!((names(&config), queue(&config, "pay-ments").batch_size), (vec!["pay-ments"], 7));
    assert!(!load("[queue]\n", &[]).unwrap().queues_configured);
}

#[test]
fn the_environment_sets_every_kind_of_value() {
    let config = load_env(&[
        ("OVERDUE_QUEUE__ORDERS__POLL_INTERVAL", "50ms"),
        ("OVERDUE_QUEUE__ORDERS__BACKOFF__JITTER", "0.5"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__TYPE", "stream"),
        ("OVERDUE_REDIS__PORT", "6390"),
        ("OVERDUE_REDIS__PREFIX", "007"),
    ])
    .unwrap();
    let orders = queue(&config, "orders");
    assert_eq!((orders.poll_interval, orders.backoff.jitter), (Duration::from_millis(50), 0.5));
    assert_eq!(orders.handler, HandlerConfig::Stream { max_len: None });
    assert_eq!((config.redis.port, config.redis.prefix.as_str()), (Some(6390), "007"));
}

#[test]
fn variables_that_kubernetes_injects_are_ignored() {
    let injected = [
        ("OVERDUE_SERVICE_HOST", "10.0.0.1"),
        ("OVERDUE_SERVICE_PORT_HTTP", "7700"),
        ("OVERDUE_PORT", "tcp://10.0.0.1:7700"),
        ("OVERDUE_PORT_7700_TCP", "tcp://10.0.0.1:7700"),
        ("OVERDUE_REDIS", "x"),
        ("OVERDUEX_REDIS__URL", "x"),
    ];
    assert_eq!(load_env(&injected).unwrap(), load_env(&[]).unwrap());
}

#[test]
fn urls_survive_as_text_and_an_empty_one_is_none() {
    let url = |text: &str| load_env(&[("OVERDUE_REDIS__URL", text)]).unwrap().redis.url;
    assert_eq!(url("redis://:007@h").unwrap().as_str(), "redis://:007@h");
    assert_eq!(url("redis://h\n").unwrap().as_str(), "redis://h");
    assert_eq!(url(""), None);
    let file_and_env = load("[redis]\nurl = 'redis://file'\n", &[("OVERDUE_REDIS__URL", "")]);
    assert_eq!(file_and_env.unwrap().redis.url, None);
}

#[test]
fn errors_of_a_file_name_the_file_the_line_and_the_key() {
    for (text, expected) in [
        ("[redis\n", "overdue.toml:1:7: "),
        ("[redis]\nurll = 'x'\n", "overdue.toml:2:1: unknown key `urll`, expected one of `url`"),
        ("[rediss]\n", "overdue.toml:1:2: unknown key `rediss`"),
        ("[queue]\norders = 1\n", "overdue.toml:2:10: invalid type: integer, expected a section with keys"),
        ("[queue.orders]\nlease = '10x'\n", "overdue.toml:2:9: duration `10x` has an unknown unit"),
        ("[queue.orders]\nlease = 10\n", "overdue.toml:2:9: invalid type: integer `10`, expected a duration"),
        (
            "[queue.orders]\nbatch_size = 'x'\n",
            "overdue.toml:2:14: invalid type: string \"x\", expected a whole number\n",
        ),
        ("[queue.orders]\nbatch_size = 1.5\n", "overdue.toml:2:14: invalid type"),
        ("\n[queue.Orders]\n", "overdue.toml:2: `queue.Orders` is no queue: queue name `Orders`"),
        ("[queue.\"a.b\"]\n", "overdue.toml:1: `queue.a.b` is no queue"),
        ("[http]\nlisten = 'localhost'\n", "overdue.toml:2: `http.listen` is `localhost`; write"),
        ("[log]\nformat = 'xml'\n", "overdue.toml:2: `log.format` is `xml`; this version knows text, json"),
        ("[log]\nlevel = 'verbose'\n", "overdue.toml:2: `log.level` is `verbose`; it must be off"),
        ("[log]\nlevel = 'overdue=loud'\n", "overdue.toml:2: `log.level`"),
        ("[log]\nlevel = ''\n", "overdue.toml:2: `log.level`"),
        ("[serve]\ndrain_timeout = '0s'\n", "overdue.toml:2: `serve.drain_timeout` is zero"),
        ("[redis]\nconnect_timeout = '0s'\n", "overdue.toml:2: `redis.connect_timeout` is zero"),
        ("[redis]\nresponse_timeout = '0ms'\n", "overdue.toml:2: `redis.response_timeout` is zero"),
        ("[redis]\ndata_dir = ''\n", "overdue.toml:2: `redis.data_dir` is empty"),
        ("[redis]\nport = 65536\n", "overdue.toml:2: `redis.port` is 65536; it must be 1 to 65535"),
        (
            "[redis]\nurl = 'http://h'\n",
            "overdue.toml:2: `redis.url` cannot be used: url `http://h` does not",
        ),
        (
            "[redis]\nurl = 'redis://h'\nport = 6380\n",
            "overdue.toml:3: `redis.port` is the port of a private redis-server, but `redis.url`",
        ),
        ("queue.eu.handler.type = 'pigeon'\n", "overdue.toml:1: `queue.eu.handler.type` is `pigeon`; "),
        (
            "[queue.eu.handler]\ntype = 'stream'\ntimeout = '1s'\n",
            "overdue.toml:3: `queue.eu.handler.timeout` is no key of the handler type `stream`",
        ),
        ("queue.eu.handler.command = ['x']\n", "overdue.toml:1: `queue.eu.handler.command` is no key of"),
        (
            "queue.eu.handler.dead_exit_codes = []\n",
            "overdue.toml:1: `queue.eu.handler.dead_exit_codes` is no",
        ),
    ] {
        let error = file_error(text);
        assert!(error.starts_with(expected), "{text}\n{error}\nis not\n{expected}");
    }
    for prefix in ["", "a{b", "a}b", "a b", "a\\tb", "a\\u0000b"] {
        let error = file_error(&format!("[redis]\nprefix = \"{prefix}\"\n"));
        assert!(error.starts_with("overdue.toml:2: `redis.prefix` `"), "{error}");
    }
}

#[test]
fn bounds_and_contradictions_of_a_queue_name_it() {
    for (line, expected) in [
        ("poll_interval = '0ms'", "`queue.eu.poll_interval` is 0s; it must be 1ms to 1h"),
        ("poll_interval = '61m'", "`queue.eu.poll_interval` is 1h1m; it must be 1ms to 1h"),
        ("batch_size = 0", "`queue.eu.batch_size` is 0; it must be 1 to 1000"),
        ("batch_size = 1001", "`queue.eu.batch_size` is 1001; it must be 1 to 1000"),
        ("concurrency = -1", "`queue.eu.concurrency` is -1; it must be 1 to 10000"),
        ("concurrency = 10001", "`queue.eu.concurrency` is 10001; it must be 1 to 10000"),
        ("max_attempts = 0", "`queue.eu.max_attempts` is 0; it must be 1 to 4294967295"),
        ("lease = '25h'", "`queue.eu.lease` is 1d1h; it must be at most 24h"),
        ("lease = '299ms'", "`queue.eu.lease` (299ms) is shorter than three times `poll_interval` (100ms)"),
        ("poll_interval = '4s'", "`queue.eu.lease` (10s) is shorter than three times `poll_interval` (4s)"),
        ("dead_retention = '59m'", "`queue.eu.dead_retention` is 59m; it must be at least 1h"),
        ("backoff.max = '1ms'", "`queue.eu.backoff.max` (1ms) is below `initial` (1s)"),
        ("backoff = { initial = '1h' }", "`queue.eu.backoff.max` (10m) is below `initial` (1h)"),
        ("backoff.factor = 0.5", "`queue.eu.backoff.factor` is 0.5; it must be a number of at least 1"),
        ("backoff.factor = inf", "`queue.eu.backoff.factor` is inf; it must be a number of at least 1"),
        ("backoff.jitter = 1.1", "`queue.eu.backoff.jitter` is 1.1; it must be 0 to 1"),
        ("backoff.jitter = nan", "`queue.eu.backoff.jitter` is NaN; it must be 0 to 1"),
    ] {
        let error = file_error(&format!("[queue.eu]\n{line}\n"));
        assert_eq!(error, format!("overdue.toml:2: {expected}"));
    }
    for line in ["lease = '300ms'", "lease = '24h'", "batch_size = 1000", "backoff = { factor = 1 }"] {
        assert!(load(&format!("[queue.eu]\n{line}\n"), &[]).is_ok(), "{line}");
    }
}

#[test]
fn a_command_is_checked() {
    let section = |line: &str| format!("[queue.eu.handler]\ntype = 'command'\n{line}\n");
    for (line, expected) in [
        ("", "2: `queue.eu.handler.command` needs a program and its arguments, like"),
        ("command = []", "3: `queue.eu.handler.command` needs a program"),
        ("command = ['', 'x']", "3: `queue.eu.handler.command` needs a program"),
        ("command = 'x --now'", "3:11: invalid type: string, expected a sequence"),
        (r#"command = ["x", "a\u0000b"]"#, "3: `queue.eu.handler.command` holds a NUL"),
        ("command = ['x']\ntimeout = '0s'", "4: `queue.eu.handler.timeout` is zero"),
        (
            "command = ['x']\ndead_exit_codes = [0]",
            "4: `queue.eu.handler.dead_exit_codes` is 0; it must be 1 to",
        ),
        ("command = ['x']\ndead_exit_codes = [256]", "4: `queue.eu.handler.dead_exit_codes` is 256"),
        ("command = ['x']\ndead_exit_codes = [1, 75]", "4: `queue.eu.handler.dead_exit_codes` holds 75"),
    ] {
        let error = file_error(&section(line));
        assert!(error.starts_with(&format!("overdue.toml:{expected}")), "{error}");
    }
}

#[test]
fn the_reference_shows_the_defaults_of_a_command() {
    let (_, block) = REFERENCE.split_once("# type = \"command\"").expect("a block of comments");
    let keys = ["command", "timeout", "dead_exit_codes"].map(|key| {
        let line =
            block.lines().find_map(|line| line.strip_prefix("# ").filter(|line| line.starts_with(key)));
        line.unwrap_or_else(|| panic!("the reference has no `# {key} = `"))
    });
    let with = |keys: &[&str]| {
        let text = format!("[queue.eu.handler]\ntype = 'command'\n{}\n", keys.join("\n"));
        queue(&load(&text, &[]).unwrap(), "eu").handler.clone()
    };
    assert_eq!(with(&keys), with(&keys[..1]));
    let command = vec!["/usr/local/bin/expire".to_owned(), "--now".to_owned()];
    let expected = CommandConfig { command, timeout: HANDLER_TIMEOUT, dead_exit_codes: vec![] };
    assert_eq!(with(&keys), HandlerConfig::Command(expected));
}

#[test]
fn errors_of_the_environment_name_the_variable() {
    for (variable, value, expected) in [
        ("OVERDUE_QUEUE__ORDERS__LEASE", "10x", "duration `10x` has an unknown unit"),
        ("OVERDUE_QUEUE__ORDERS__LEASE", "", ": `queue.orders.lease`: duration `` is empty"),
        ("OVERDUE_QUEUE__ORDERS__LEASE", "30", "has no unit"),
        ("OVERDUE_QUEUE__ORDERS__LEASE", "1ms", "`queue.orders.lease` (1ms) is shorter"),
        ("OVERDUE_QUEUE__ORDERS__BATCH_SIZE", "many", "`queue.orders.batch_size`: invalid type"),
        ("OVERDUE_QUEUE__ORDERS__BATCH_SIZE", "5000", "`queue.orders.batch_size` is 5000"),
        ("OVERDUE_QUEUE__ORDERS__LEESE", "1s", "unknown key `leese`"),
        ("OVERDUE_QUEUE__ORDERS", "x", "expected a section with keys"),
        ("OVERDUE_REDIS__URL__X", "x", "redis.url"),
        ("OVERDUE__REDIS__URL", "redis://h", "unknown key `_redis`"),
        ("OVERDUE_REDIS__URL", "127.0.0.1:6379", "does not begin with one of redis://"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__TYPE", "pigeon", "this version knows log, webhook, command"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__TYPE", "command", "`queue.orders.handler.command` needs a program"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__COMMAND", "x", "`queue.orders.handler.command`"),
    ] {
        let error = load_env(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("environment variable {variable}: ")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_flag_is_named_too() {
    let sources = Sources { redis_url: Some("localhost".to_owned()), ..Sources::default() };
    let error = super::load::load(&sources, &[]).unwrap_err().to_string();
    assert!(error.starts_with("--redis-url: `redis.url` cannot be used"), "{error}");
}

#[test]
fn the_snippet_shows_the_place() {
    let error = file_error("[queue.orders]\nlease = 10\n");
    let snippet = "\n  |\n2 | lease = 10\n  |         ^^";
    assert!(error.ends_with(snippet), "{error}");
}

#[test]
fn messages_are_short_and_cannot_steer_a_terminal() {
    let long = "x".repeat(100_000);
    for text in [
        "\"\\u001b[2J\" = 1\n".to_owned(),
        "[queue.\"a\\u001b\"]\n".to_owned(),
        "a = '\u{1b}[2J'\n".to_owned(),
        format!("{long} = 1\n"),
        format!("[log]\nlevel = '{long}'\n"),
        format!("[queue.eu]\nlease = 1 # {long}\n"),
    ] {
        let error = load(&text, &[]).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && error.chars().count() < 1000, "{error}");
    }
}

#[test]
fn no_message_and_no_output_shows_a_password() {
    for text in [
        "[redis]\nurl = 'redis://:geheim@h\n",
        "[redis]\nport = 'redis://:geheim@h'\n",
        "redis = 'redis://:geheim@h'\n",
        "[redis]\nurl = 'http://:geheim@h'\n",
        "redis = { url = 'redis://:geheim@h', urll = 1 }\n",
        "[queue.eu.handler]\nheader = { authorization = 'geheim' }\n",
        "[queue.eu.handler]\nheaders = {\n  authorization = ['geheim']\n}\n",
        "[queue.eu.handler]\nsecret = [\n  5, 'geheim'\n]\n",
        "[http]\ntokens = {\n  shop = 'geheim'\n}\n",
        "[http.tokens.shop]\ntoken = \"\"\"\ngeheim\n",
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }
    for (variable, value) in [
        ("OVERDUE_REDIS__PORT", "redis://:geheim@h"),
        ("OVERDUE_QUEUE__EU__HANDLER", "geheim"),
        ("OVERDUE_QUEUE__EU__HANDLER__HEADERS", "geheim"),
    ] {
        let error = load_env(&[(variable, value)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }

    let config = load_env(&[("OVERDUE_REDIS__URL", "redis://app:geheim@h")]).unwrap();
    let shown = format!("{config:?} {} {}", config.to_toml(), serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("geheim"), "{shown}");
    assert_eq!(shown.matches("redis://app:***@h").count(), 3, "{shown}");
}

#[test]
fn the_effective_configuration_loads_again_as_the_same() {
    let directory = TempDir::new().unwrap();
    let path = write(
        &directory,
        "[queue.a]\nlease = '90s'\ndead_retention = '30d'\n[queue.b.handler]\ntype = 'stream'\n\
        [queue.c.handler]\ntype = 'command'\ncommand = ['x', '-y']\ntimeout = '1s'\ndead_exit_codes = [65]\n",
    );
    let env = [
        ("OVERDUE_REDIS__URL", "redis://h:1/2"),
        ("OVERDUE_LOG__FORMAT", "json"),
        ("OVERDUE_QUEUE__B__BACKOFF__JITTER", "0"),
    ];
    let first = super::load::load(&sources(&path, &env), &[]).unwrap();
    write(&directory, &first.to_toml());
    assert_eq!(super::load::load(&sources(&path, &[]), &[]).unwrap(), first);

    let json = serde_json::to_value(&first).unwrap();
    assert_eq!(json["queue"]["a"]["lease"], "1m30s");
    assert_eq!(json["queue"]["b"]["handler"]["type"], "stream");
}

#[test]
fn backoff_grows_to_its_cap_and_spreads() {
    let backoff = Backoff { initial: SECOND, max: 600 * SECOND, factor: 2.0, jitter: 0.2 };
    for (failures, pause_s) in [(0, 1), (1, 1), (2, 2), (10, 512), (11, 600), (u32::MAX, 600)] {
        assert_eq!(backoff.delay(failures, 0.5), pause_s * SECOND, "{failures}");
    }
    assert_eq!(backoff.delay(2, 0.0), Duration::from_millis(1600));
    assert_eq!(backoff.delay(2, 1.0), Duration::from_millis(2400));
    let at_once = Backoff { initial: Duration::ZERO, factor: f64::MAX, ..backoff };
    assert_eq!(at_once.delay(u32::MAX, 1.0), Duration::ZERO);
}

#[test]
fn tokens_are_in_no_error() {
    for (variable, value) in [
        ("OVERDUE_HTTP__TOKENS", "geheim-geheim-geheim"),
        ("OVERDUE_HTTP__TOKENS__SHOP", "geheim-geheim-geheim"),
        ("OVERDUE_HTTP__TOKENS__SHOP__TOKEN", "geheim geheim geheim"),
    ] {
        let error = load_env(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.contains(variable) && !error.contains("geheim"), "{error}");
    }
    let error = load("[http.tokens.shop]\ntoken = 123456789123456789", &[]).unwrap_err().to_string();
    assert!(!error.contains("123456789"), "{error}");
}
