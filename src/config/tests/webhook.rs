use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn webhook(config: &Config) -> &WebhookConfig {
    match &config.queues.values().next().unwrap().handler {
        HandlerConfig::Webhook(webhook) => webhook,
        other => panic!("{other:?}"),
    }
}

/// A file with these lines in the section of the handler.
fn section(lines: &str) -> String {
    format!("[queue.eu.handler]\ntype = 'webhook'\nurl = 'https://h/expired'\n{lines}\n")
}

/// The commented block of the reference, as a file.
fn reference_block() -> String {
    let (_, block) = REFERENCE.split_once("# The keys of type = \"webhook\"").unwrap();
    let keys = block.lines().filter_map(|line| line.strip_prefix("#   "));
    let lines: Vec<&str> = keys.take_while(|line| line.contains(" = ")).collect();
    format!("[queue.eu.handler]\ntype = 'webhook'\n{}\n", lines.join("\n"))
}

#[test]
fn the_commented_block_of_the_reference_shows_every_key_and_the_defaults() {
    let config = load(&reference_block(), &[]).unwrap();
    let shown = webhook(&config);
    let defaults = WebhookConfig::new(shown.url.clone());
    let timeouts = |config: &WebhookConfig| (config.timeout, config.connect_timeout);
    assert_eq!(timeouts(shown), timeouts(&defaults));
    assert_eq!((shown.secret.len(), shown.secret_file.len(), shown.headers.len()), (1, 1, 1));
    assert!(shown.ca_file.is_some());

    let least = load(&section(""), &[]).unwrap();
    let url = WebhookUrl::new("https://h/expired").unwrap();
    assert_eq!(*webhook(&least), WebhookConfig::new(url));
}

#[test]
fn secrets_are_a_text_a_list_or_words_in_a_variable() {
    let count = |lines: &str| webhook(&load(&section(lines), &[]).unwrap()).secret.len();
    assert_eq!(count(&format!("secret = '{SECRET}'")), 1);
    assert_eq!(count(&format!("secret = ['{SECRET}', '{OTHER}']")), 2);
    assert_eq!(count("secret = []"), 0);
    let config = load_env(&[
        ("OVERDUE_QUEUE__ORDERS__HANDLER__TYPE", "webhook"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__URL", "http://127.0.0.1:8080/expired\n"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__TIMEOUT", "3s"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__SECRET", &format!("{SECRET} {OTHER}\n")),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__SECRET_FILE", "/run/secrets/a"),
        ("OVERDUE_QUEUE__ORDERS__HANDLER__HEADERS__X-API-KEY", "007"),
    ])
    .unwrap();
    let webhook = webhook(&config);
    assert_eq!(webhook.url.as_url().as_str(), "http://127.0.0.1:8080/expired");
    assert_eq!(webhook.secret, [Secret::new(SECRET).unwrap(), Secret::new(OTHER).unwrap()]);
    assert_eq!(webhook.secret_file, [Path::new("/run/secrets/a")]);
    assert_eq!((webhook.timeout, &webhook.headers["x-api-key"]), (3 * SECOND, &"007".parse().unwrap()));
}

#[test]
fn errors_name_the_key() {
    for (line, expected) in [
        ("timeout = '0s'", "overdue.toml:4: `queue.eu.handler.timeout` is zero"),
        ("connect_timeout = '0s'", "overdue.toml:4: `queue.eu.handler.connect_timeout` is zero"),
        ("timeout = 15", "overdue.toml:4:11: invalid type: integer `15`, expected a duration"),
        ("secret = 'geheim'", "overdue.toml:4: `queue.eu.handler.secret` secret `***` does not begin with"),
        (
            "secret = 'whsec_ge!'",
            "overdue.toml:4: `queue.eu.handler.secret` secret `whsec_***` is not base64",
        ),
        (
            "secret = 'whsec_MfKQ'",
            "overdue.toml:4: `queue.eu.handler.secret` secret `whsec_***` holds 3 bytes",
        ),
        ("secret_file = ''", "overdue.toml:4: `queue.eu.handler.secret_file` is empty"),
        ("ca_file = ''", "overdue.toml:4: `queue.eu.handler.ca_file` is empty"),
        (
            "headers = { 'a b' = 'x' }",
            "overdue.toml:4: `queue.eu.handler.headers` has `a b`, which is no name",
        ),
        (
            "headers = { Host = 'x' }",
            "overdue.toml:4: `queue.eu.handler.headers` has `Host`, which overdue sets",
        ),
        (
            "headers = { webhook-x = 'x' }",
            "overdue.toml:4: `queue.eu.handler.headers` has `webhook-x`, which",
        ),
        (
            "headers = { X-A = 'x', x-a = 'y' }",
            "overdue.toml:4: `queue.eu.handler.headers` has `x-a`, which is there",
        ),
        (
            "headers = { x-a = \"a\\nb\" }",
            "overdue.toml:4: `queue.eu.handler.headers` has `x-a`, whose value",
        ),
    ] {
        let error = file_error(&section(line));
        assert!(error.starts_with(expected), "{line}\n{error}\nis not\n{expected}");
    }
    for (url, expected) in [
        ("", "is missing: name the address"),
        ("h:8080/x", "does not begin with http:// or https://"),
        ("127.0.0.1:8080", "is no url"),
        ("ftp://h", "does not begin with http:// or https://"),
        ("https://app:geheim@h", "`https://app:***@h` holds a user or password"),
        ("https://geheim@h/x?key=geheim", "`https://***@h/x` holds a user or password"),
    ] {
        let error = file_error(&format!("[queue.eu.handler]\ntype = 'webhook'\nurl = '{url}'\n"));
        assert!(error.starts_with("overdue.toml:3: `queue.eu.handler.url` "), "{error}");
        assert!(error.contains(expected) && !error.contains("geheim"), "{error}");
    }
    let error = file_error("[queue.eu.handler]\ntype = 'webhook'\n");
    assert!(error.starts_with("overdue.toml:2: `queue.eu.handler.url` is missing"), "{error}");
}

#[test]
fn keys_of_another_type_are_errors() {
    let (_, keys) =
        reference_block().split_once("'webhook'\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for line in keys.lines() {
        let key = line.split(' ').next().unwrap();
        let error = file_error(&format!("[queue.eu.handler]\ntype = 'stream'\n{line}\n"));
        let expected =
            format!("overdue.toml:3: `queue.eu.handler.{key}` is no key of the handler type `stream`");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn no_message_and_no_output_shows_a_secret() {
    let lines = "secret = 'whsec_Z2VoZWltZ2VoZWltZ2VoZWltZ2VoZWlt'\nheaders = { x-api-key = 'geheim' }";
    let text = section(lines).replace("/expired", "/expired?key=geheim");
    let config = load(&text, &[]).unwrap();
    let shown = format!("{config:?} {} {}", config.to_toml(), serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("geheim") && !shown.contains("Z2Vo"), "{shown}");
    assert_eq!(shown.matches("whsec_***").count(), 3, "{shown}");
    assert_eq!(shown.matches("https://h/expired?***").count(), 3, "{shown}");

    for lines in [
        "secret = 'whsec_geheim",
        "secret = 'geheim",
        "headers = { x-api-key = 'geheim",
        "headers = { x-api-key = ['geheim'] }",
        "[queue.eu.handler.headers]\nx-api-key = 'geheim",
        "[queue.eu.handler.headers]\nx-api-key = ['geheim']",
    ] {
        let error = load(&section(lines), &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }
}

#[test]
fn what_is_shown_of_a_webhook_without_secrets_loads_again_as_the_same() {
    let directory = TempDir::new().unwrap();
    let lines = "timeout = '2s'\nconnect_timeout = '1s'\nsecret_file = ['a', 'b']\nca_file = 'ca.pem'";
    let path = write(&directory, &section(lines));
    let first = super::super::load::load(&sources(&path, &[]), &[]).unwrap();
    write(&directory, &first.to_toml());
    assert_eq!(super::super::load::load(&sources(&path, &[]), &[]).unwrap(), first);
}
