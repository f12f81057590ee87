//! Arguments of any kind: no vector of them makes a panic or shows a secret, and what is accepted is what the values
//! themselves accept. What is printed for people cannot steer their terminal.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    duration,
    fuzz::{bytes, run, text},
    types::{DueAt, Id, QueueName},
};

/// Every word that the command line knows, and values that its options take.
fn words() -> Vec<String> {
    fn gather(command: &clap::Command, words: &mut Vec<String>) {
        words.push(command.get_name().to_owned());
        for argument in command.get_arguments() {
            words.extend(argument.get_long().map(|long| format!("--{long}")));
            words.extend(argument.get_possible_values().iter().map(|value| value.get_name().to_owned()));
        }
        command.get_subcommands().for_each(|command| gather(command, words));
    }
    let values =
        ["orders", "42", "30m", "1h", "2026-01-01T00:00:00Z", "a=b", "-", "--", "0.5", "whsec_geheim"];
    let mut words: Vec<String> = values.map(str::to_owned).into();
    gather(&Cli::command(), &mut words);
    words
}

#[test]
fn any_arguments_are_a_command_or_wrong_usage() {
    Cli::command().debug_assert();
    let word = prop_oneof![
        8 => select(words()).prop_map(OsString::from),
        2 => text(2).prop_map(OsString::from),
        1 => bytes(2).prop_map(OsString::from_vec),
    ];
    run(200, vec(word, 0..9), |arguments| {
        let arguments = [OsString::from("overdue")].into_iter().chain(arguments);
        if let Err(error) = Cli::try_parse_from(arguments) {
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            prop_assert_eq!(error.exit_code(), if is_help { 0 } else { 2 });
            prop_assert!(!error.render().to_string().is_empty());
        }
        Ok(())
    });
}

/// A value that is right as often as not.
fn value() -> impl Strategy<Value = String> {
    let right =
        select(&["30m", "1.5s", "2026-01-01T00:00:00Z", "1767225600000", "orders", "absent", "order-42"][..]);
    prop_oneof![2 => right.prop_map(str::to_owned), 1 => text(3), 1 => "[0-9]{1,3}[smhd]?"]
}

#[test]
fn schedule_takes_what_its_values_take() {
    run(200, (any::<bool>(), value(), value(), value()), |(is_delay, when, queue, id)| {
        let option = format!("{}={when}", if is_delay { "--in" } else { "--at" });
        let parsed = Cli::try_parse_from(["overdue", "schedule", &option, "--", &queue, &id]);
        let when_is_sound =
            if is_delay { duration::parse(&when).is_ok() } else { when.parse::<DueAt>().is_ok() };
        let is_sound = when_is_sound && QueueName::new(&queue).is_ok() && Id::new(&id).is_ok();
        prop_assert_eq!(parsed.is_ok(), is_sound, "{:?}", parsed.err());
        Ok(())
    });
}

#[test]
fn a_secret_among_the_arguments_is_in_no_message() {
    let rest = vec(select(words()), 0..4);
    let command = select(&["sign", "verify", "listen"][..]);
    run(150, (command, "[a-zA-Z0-9+/_ =]{8,30}", rest), |(command, secret, rest)| {
        prop_assume!(!rest.iter().any(|word| secret.contains(word.as_str()) || word.contains(&secret)));
        let option = format!("--secret={secret}");
        let arguments = ["overdue", "webhook", command, &option].into_iter().map(str::to_owned).chain(rest);
        let shown = match Cli::try_parse_from(arguments) {
            Ok(cli) => format!("{cli:?}"),
            Err(error) => error.render().to_string(),
        };
        prop_assert!(!shown.contains(&secret), "{shown}");
        Ok(())
    });
}

/// A row of text that others have written.
#[derive(serde::Serialize)]
struct Foreign(Vec<String>);

impl output::Row for Foreign {
    const COLUMNS: &'static [&'static str] = &["id", "note"];

    fn cells(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[test]
fn what_is_printed_for_people_is_a_line_for_each_row_and_steers_no_terminal() {
    run(200, vec((text(3), text(3)), 1..4), |rows| {
        let rows: Vec<Foreign> = rows.into_iter().map(|(id, note)| Foreign(vec![id, note])).collect();
        let table = output::table(&rows);
        prop_assert!(!table.replace('\n', "").contains(char::is_control), "{table:?}");
        prop_assert_eq!(table.split('\n').count(), rows.len() + 1);
        for Foreign(cells) in &rows {
            let block = output::block(&[("id", cells[0].clone()), ("note", cells[1].clone())]);
            prop_assert!(!block.replace('\n', "").contains(char::is_control), "{block:?}");
            prop_assert_eq!(block.split('\n').count(), 2);
        }
        Ok(())
    });
}
