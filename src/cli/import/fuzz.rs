//! What `import` reads: of any bytes, each line is a registration or an error that names it; what was written right is
//! what is registered; and no line is so long that it could fill the memory.

use std::{
    io::{self, BufReader, Cursor, Read},
    time::Duration,
};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    cli::{
        deadline_lines::{MAX_LINE_BYTES, csv, parse_json},
        export, ndjson_lines,
    },
    duration,
    fuzz::{bytes, json, mutated, readable, run, text},
    queue::{Due, Shown, State},
    types::{DueAt, Id, Payload},
};

type Verdicts = Vec<(u64, anyhow::Result<Registration>)>;

fn id() -> impl Strategy<Value = String> {
    text(2).prop_filter("an id", |text| Id::new(text).is_ok())
}

fn due() -> impl Strategy<Value = Due> {
    prop_oneof![
        (DueAt::MIN_MS..DueAt::MAX_MS).prop_map(|ms| Due::At(DueAt::from_ms(ms).unwrap())),
        (0..1_000_000_000u64).prop_map(|ms| Due::In(Duration::from_millis(ms))),
    ]
}

fn registration() -> impl Strategy<Value = Registration> {
    let payload =
        option::of(prop_oneof![text(3), json().prop_map(|json| json.to_string())]).prop_map(|text| {
            text.and_then(|text| Payload::new(text).ok()).filter(|payload| payload.as_str() != "null")
        });
    (id(), due(), payload).prop_map(|(id, due, payload)| Registration {
        id: Id::new(id).unwrap(),
        due,
        payload,
    })
}

/// A registration as a line of JSON, in one of the forms that a time can have.
fn line_of(registration: &Registration, as_number: bool) -> String {
    let id = serde_json::to_string(&registration.id).unwrap();
    let due = match registration.due {
        Due::At(at) if as_number => format!("\"due_at\":{}", at.as_ms()),
        Due::At(at) => format!("\"due_at\":\"{at}\""),
        Due::In(delay) => format!("\"delay\":\"{}\"", duration::format(delay)),
    };
    let payload = registration.payload.as_ref().map(|payload| format!(",\"payload\":{}", payload.to_json()));
    format!("{{\"id\":{id},{due}{}}}", payload.unwrap_or_default())
}

fn ndjson(bytes: &[u8], capacity: usize, max_line_bytes: u64) -> Verdicts {
    let input = BufReader::with_capacity(capacity, bytes);
    ndjson_lines::read(input, max_line_bytes, parse_json).collect()
}

fn csv_of(bytes: &[u8]) -> anyhow::Result<Verdicts> {
    Ok(csv(Cursor::new(bytes.to_vec()))?.collect())
}

/// What holds of every file: lines come in order, within the file, and their errors can be printed.
fn check(verdicts: &Verdicts, bytes: &[u8]) -> Result<(), TestCaseError> {
    let numbers: Vec<u64> = verdicts.iter().map(|(number, _)| *number).collect();
    let lines = breaks(bytes) + 1;
    prop_assert!(numbers.iter().zip(numbers.iter().skip(1)).all(|(one, next)| one < next), "{numbers:?}");
    prop_assert!(numbers.iter().all(|number| (1..=lines).contains(number)), "{numbers:?} of {lines}");
    for (_, verdict) in verdicts {
        match verdict {
            Ok(registration) => prop_assert!(Id::new(registration.id.as_str()).is_ok()),
            Err(error) => {
                let message = format!("{error:#}");
                readable(&message)?;
                prop_assert!(!message.contains("(line:"), "a second number of a line: {message}");
            }
        }
    }
    Ok(())
}

#[test]
fn lines_of_json_are_what_was_written() {
    let line = (registration(), any::<bool>(), "[ \t]{0,2}", select(&["\n", "\r\n", "\n\n", "\n \r\n"][..]));
    let bom = select(&["", "\u{feff}"][..]);
    run(150, (bom, vec(line, 0..5)), |(bom, lines)| {
        let (mut file, mut number, mut expected) = (bom.to_owned(), 1, Vec::new());
        for (registration, as_number, space, end) in lines {
            file.push_str(&format!("{space}{}{end}", line_of(&registration, as_number)));
            expected.push((number, registration));
            number += end.matches('\n').count() as u64;
        }
        let read = ndjson(file.as_bytes(), 4096, MAX_LINE_BYTES);
        let read: Result<Vec<_>, String> =
            read.into_iter().map(|(number, line)| Ok((number, line.map_err(|e| e.to_string())?))).collect();
        let read = read.map_err(TestCaseError::fail)?;
        // A payload comes back as one of the same meaning; see the target of payloads.
        let form = |(number, registration): &(u64, Registration)| (*number, line_of(registration, false));
        prop_assert_eq!(
            read.iter().map(form).collect::<Vec<_>>(),
            expected.iter().map(form).collect::<Vec<_>>()
        );
        Ok(())
    });
}

#[test]
fn what_export_writes_import_reads() {
    run(150, registration(), |registration| {
        let Due::At(due_at) = registration.due else { return Ok(()) };
        let row = Shown {
            valid_id: Some(registration.id.clone()),
            id: registration.id.to_string(),
            queue: QueueName::new("orders").unwrap(),
            state: State::Scheduled,
            due_at: Some(due_at),
            next_attempt_at: None,
            attempt: 0,
            failures: 0,
            crashes: 0,
            lease: None,
            buried_at: None,
            reason: None,
            error: None,
            traceparent: None,
            payload: registration.payload.clone(),
        };
        let line = serde_json::to_string(&export::Line::new(&row)).unwrap();
        let read = parse_json(line.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(line_of(&read, false), line_of(&registration, false));
        Ok(())
    });
}

#[test]
fn any_bytes_are_lines_that_are_read_one_by_one() {
    let lines = vec(
        prop_oneof![registration().prop_map(|it| line_of(&it, true)), json().prop_map(|it| it.to_string())],
        0..5,
    );
    let file = mutated(lines.prop_map(|lines| lines.join("\n").into_bytes()));
    run(250, (prop_oneof![file, bytes(12)], 1..64usize, 8..300u64), |(file, capacity, max_line_bytes)| {
        let read = ndjson(&file, capacity, max_line_bytes);
        check(&read, &file)?;
        // However it is cut into pieces, and whatever stands around it, a line is what it is.
        let mut expected = Vec::new();
        for (number, line) in (1..).zip(file.split_inclusive(|byte| *byte == b'\n')) {
            let too_long = line.len() as u64 > max_line_bytes;
            let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(line);
            if too_long || !line.trim_ascii().is_empty() {
                expected.push((number, !too_long && parse_json(line.trim_ascii()).is_ok()));
            }
        }
        let read: Vec<_> = read.iter().map(|(number, line)| (*number, line.is_ok())).collect();
        prop_assert_eq!(read, expected);
        Ok(())
    });
}

/// How many lines end in this, by a line feed, a carriage return, or both.
fn breaks(text: &[u8]) -> u64 {
    let is_break =
        |at: &usize| text[*at] == b'\n' || (text[*at] == b'\r' && text.get(at + 1) != Some(&b'\n'));
    (0..text.len()).filter(is_break).count() as u64
}

/// What stands in the cells of a registration.
fn record(registration: &Registration) -> [String; 4] {
    let (due_at, delay) = match registration.due {
        Due::At(at) => (at.to_string(), String::new()),
        Due::In(delay) => (String::new(), duration::format(delay)),
    };
    let payload = registration.payload.as_ref().map(|payload| payload.as_str().to_owned());
    [registration.id.to_string(), due_at, delay, payload.unwrap_or_default()]
}

#[test]
fn records_of_csv_are_what_was_written_on_the_lines_of_an_editor() {
    let order = Just(["id", "due_at", "delay", "payload"]).prop_shuffle();
    let terminator = select(&[csv::Terminator::CRLF, csv::Terminator::Any(b'\n')][..]);
    let bom = select(&["", "\u{feff}"][..]);
    run(
        150,
        (bom, order, terminator, vec(registration(), 0..5)),
        |(bom, order, terminator, registrations)| {
            let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
            writer.write_record(order).unwrap();
            let mut lines = Vec::new();
            for registration in &registrations {
                writer.flush().unwrap();
                lines.push(breaks(writer.get_ref()) + 1);
                let cells = record(registration);
                let known = ["id", "due_at", "delay", "payload"];
                let at = |name: &str| known.iter().position(|known| *known == name).unwrap();
                writer.write_record(order.iter().map(|name| &cells[at(name)])).unwrap();
            }
            let file = [bom.as_bytes(), &writer.into_inner().unwrap()].concat();
            let read = csv_of(&file).unwrap();
            prop_assert_eq!(read.len(), registrations.len());
            for (((number, read), line), registration) in read.into_iter().zip(lines).zip(registrations) {
                prop_assert_eq!(number, line);
                prop_assert_eq!(read.map_err(|error| TestCaseError::fail(error.to_string()))?, registration);
            }
            Ok(())
        },
    );
}

#[test]
fn any_bytes_are_records_or_errors_that_name_a_line() {
    let row = "[a-z]{0,3}\"?(,\"?[0-9]{13}\"?)?(,[ -~]{0,4})?";
    let header =
        select(&["id,due_at", "id,delay,payload", "due_at,id", "id", "id,id,due_at", "id,due_at,x"][..]);
    let file = (header, vec(row, 0..6), select(&["\n", "\r\n", "\r", "\n\n"][..]))
        .prop_map(|(header, rows, end)| [&[header.to_owned()], &rows[..]].concat().join(end).into_bytes());
    run(300, prop_oneof![mutated(file), bytes(8)], |file| match csv_of(&file) {
        Ok(read) => check(&read, &file),
        Err(error) => readable(&format!("{error:#}")),
    });
}

/// Input without an end.
struct Endless(&'static [u8], usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in buffer.iter_mut() {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(buffer.len())
    }
}

#[test]
fn a_record_without_an_end_is_an_error_and_not_all_of_the_memory() {
    for (beginning, endless) in
        [("id,due_at\n\"", "x"), ("id,due_at\n\"", "\n"), ("id,due_at\n", "x"), ("", "id,"), ("", "\"")]
    {
        let input = Cursor::new(beginning).chain(Endless(endless.as_bytes(), 0));
        let lines = csv(BufReader::new(input)).map(|mut lines| lines.next());
        let error = match lines {
            Ok(Some((number, Err(error)))) => {
                assert_eq!((number, is_io(&error)), (2, true), "{error:#}");
                error
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => error,
        };
        assert!(format!("{error:#}").contains("longer than 524288 bytes"), "{error:#}");
    }
}
