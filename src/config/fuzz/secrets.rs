//! Nothing that is wrong with a configuration shows a secret of it: not the file, not a variable, not a url.

use ::redis::IntoConnectionInfo as _;
use proptest::{collection::vec, sample::select};

use super::*;
use crate::fuzz::mutated;

/// Lines with secrets in them, right and wrong, in one line and in several.
const LINES: [&str; 23] = [
    "[redis]",
    "[http]",
    "[http.tokens.shop]",
    "[queue.eu.handler]",
    "[queue.eu.handler.headers]",
    "tokens = 'geheim-geheim-geheim'",
    "tokens = {\n  shop = 'geheim-geheim-geheim'\n}",
    "token = ['geheim-geheim-geheim', 5]",
    "token = \"\"\"\ngeheim-geheim-geheim\n\\q\"\"\"",
    "secret = 'whsec_geheimgeheimgeheimgeheimgeheimge'",
    "secret = [\n  5, 'geheimgeheimgeheim'\n]",
    "secrets = ['geheim']",
    "headers = { x-api-key = 'geheim' }",
    "headers = {\n  x-api-key = ['geheim']\n}",
    "headers = [\n  'geheim' ]",
    "header = { authorization = 'geheim' }",
    "authorization = 'geheim'",
    "x-api-key = 'geheim'",
    "password = 'geheim'",
    "password = ['geheim', 5]",
    "passwort = 'geheim'",
    "sentinels = ['redis://:geheim@h', 5]",
    "cluster = 'rediss://app:geheim@h:1,unix:///r.sock?pass=geheim'",
];
/// Lines that are shown, or parts of them: a secret that is moved into one by a change is shown, too.
const LINES_AS_THEY_ARE: [&str; 12] = [
    "url = 'redis://app:geheim@h:6379/0'",
    "url = 'unix:///r.sock?db=1&pass=geheim'",
    "urls = ['redis://:geheim@h']",
    "port = 'redis://:geheim@h'",
    "prefix = 5",
    "listen = '0.0.0.0:1'",
    "tokens.shop = { scopes = 'read', token = 'geheim geheim geheim' }",
    "tokens.shop = {\n  scopes = 5, token = 'geheim-geheim-geheim' }",
    "scopes = 'read'",
    "type = 'webhook'",
    "url = 'https://h/x?key=geheim'",
    "url = 'https://geheim@h/x'",
];

#[test]
fn no_file_makes_a_message_that_shows_a_secret() {
    let place = Place::new();
    let all = [&LINES[..], &LINES_AS_THEY_ARE].concat();
    let file = |lines: Vec<&'static str>| {
        vec(select(lines), 1..7).prop_map(|lines: Vec<&str>| lines.join("\n").into_bytes())
    };
    run(300, prop_oneof![1 => file(all), 2 => mutated(file(LINES.to_vec()))], |file| {
        // A secret that was made the name of a key is shown as one.
        prop_assume!(!String::from_utf8_lossy(&file).lines().any(names_a_key));
        match place.load(&file, &[]) {
            Ok(config) => check(&config),
            Err(error) => place.check(&error),
        }
    });
}

/// True for a line that has the secret in the name of a key or of a section.
fn names_a_key(line: &str) -> bool {
    let heading = Some(line).filter(|line| line.trim_start().starts_with('['));
    let name = line.split_once('=').map(|(name, _)| name).or(heading);
    name.is_some_and(|name| name.contains(SECRET))
}

#[test]
fn no_variable_makes_a_message_that_shows_a_secret() {
    let place = Place::new();
    let name = select(
        &[
            "REDIS__URL",
            "REDIS__URL__X",
            "REDIS__PASSWORD",
            "REDIS__PASSWORD__X",
            "REDIS__SENTINELS",
            "REDIS__CLUSTER__X",
            "REDIS__PORT",
            "HTTP__TOKENS",
            "HTTP__TOKENS__SHOP",
            "HTTP__TOKENS__SHOP__TOKEN",
            "HTTP__TOKENS__SHOP__SHA256",
            "QUEUE__EU__HANDLER",
            "QUEUE__EU__HANDLER__URL",
            "QUEUE__EU__HANDLER__SECRET",
            "QUEUE__EU__HANDLER__HEADERS",
            "QUEUE__EU__HANDLER__HEADERS__X-API-KEY",
            "QUEUE__EU__HANDLER__HEADER__X",
            "QUEUE__EU__HANDLER__NOTIFY__SECRET",
            "QUEUE__EU__HANDLER__NOTIFY",
        ][..],
    );
    let value = select(
        &[
            "geheim",
            "geheim-geheim-geheim",
            "whsec_geheim",
            "redis://app:geheim@h",
            "redis://geheim@h:x/",
            "https://h/?key=geheim",
            "https://app:geheim@h/",
            "http://h:geheim/",
            "geh\u{1b}[31meim",
        ][..],
    );
    // A lone word that is no url, or no number, is shown, to say so.
    let hides = |(name, value): &(&str, &str)| {
        !(name.ends_with("URL") || name.ends_with("PORT"))
            || value.contains(":geheim@")
            || value.contains('?')
    };
    run(150, vec((name, value).prop_filter("a lone word", hides), 1..3), |pairs| {
        let env: Vec<_> =
            pairs.iter().map(|(name, value)| (format!("OVERDUE_{name}"), (*value).to_owned())).collect();
        match place.load(b"queue.eu.handler.type = 'webhook'\n", &env) {
            Ok(config) => check(&config),
            Err(error) => place.check(&error),
        }
    });
}

#[test]
fn the_password_that_a_client_would_send_is_never_shown() {
    let word = || "[a-zA-Z0-9!$'()*,;=:@/?&%+ ._~-]{0,10}";
    let url = prop_oneof![
        (select(&["redis", "rediss"][..]), word(), word(), word())
            .prop_map(|(scheme, user, password, rest)| format!("{scheme}://{user}:{password}@{rest}")),
        (
            word(),
            "[a-zA-Z0-9%+]{0,9}",
            select(&["pass", "user", "db", "p%61ss", "PASS", "password"][..]),
            word()
        )
            .prop_map(|(path, value, key, rest)| format!(
                "redis+unix:///{path}?{key}={value}&{rest}&pass={value}"
            )),
    ];
    run(600, url, |url| {
        let Ok(checked) = RedisUrl::new(&url) else { return Ok(()) };
        let shown = format!("{checked} {checked:?} {}", serde_json::to_string(&checked).unwrap());
        let info = url.as_str().into_connection_info().ok();
        let password = info.as_ref().and_then(|info| info.redis_settings().password().map(str::to_owned));
        // One that is as short as a host cannot be told from it.
        let is_told = |password: &String| password.len() > 6 && url.matches(password.as_str()).count() == 1;
        if let Some(password) = password.filter(is_told) {
            prop_assert!(!shown.contains(&password), "{shown} shows {password}");
        }
        Ok(())
    });
}

#[test]
fn no_url_of_a_webhook_shows_what_follows_its_path() {
    let word = || "[a-zA-Z0-9!$'()*,;=:@/?&%+._~#-]{0,10}";
    run(
        600,
        (select(&["https://", "http://", "ftp://", ""][..]), word(), word(), word()),
        |(scheme, host, path, query)| {
            let text = format!("{scheme}{host}/{path}?key=geheim&{query}");
            match WebhookUrl::new(&text) {
                Ok(url) => {
                    prop_assert!(!format!("{url} {url:?}").contains(SECRET), "{url}");
                    prop_assert!(url.as_url().as_str().starts_with("http"));
                    prop_assert!(url.as_url().username().is_empty() && url.as_url().password().is_none());
                }
                Err(error) => prop_assert!(!error.to_string().contains(SECRET), "{error}"),
            }
            Ok(())
        },
    );
}

#[test]
fn a_token_is_16_characters_that_a_header_can_carry() {
    run(400, prop_oneof!["[A-Za-z0-9._~+/=-]{10,40}", text(8)], |token| {
        let trimmed = token.trim();
        let sound = trimmed.len() >= 16
            && trimmed.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c));
        match TokenDigest::of_new(&token) {
            Ok(digest) => {
                prop_assert!(sound);
                prop_assert_eq!(&digest, &TokenDigest::of(trimmed.as_bytes()));
                prop_assert_eq!(format!("{digest:?}"), "***");
            }
            Err(error) => {
                prop_assert!(!sound);
                prop_assert!(trimmed.len() < 4 || !error.to_string().contains(trimmed), "{error}");
            }
        }
        Ok(())
    });
}
