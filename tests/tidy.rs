//! Rules that the compiler does not hold: which way imports point, who spells keys, what a script's header
//! says, and how long a file may be.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The modules in the order in which they may import each other: each only what stands before it.
const ORDER: [&str; 17] = [
    "error",
    "duration",
    "types",
    "fault",
    "config",
    "process",
    "redis",
    "queue",
    "handler",
    "scheduler",
    "order",
    "lock",
    "doctor",
    "http",
    "app",
    "cli",
    "main",
];
/// The modules that have Lua files. Each spells its keys in its `keys.rs` and names its files in its `scripts.rs`.
const WITH_SCRIPTS: [&str; 2] = ["queue", "lock"];
/// "Under about 400 lines."
const MAX_LINES: usize = 450;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with an extension, with its text.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} below {folder}");
    found
}

/// True for a file that only tests have: fuzz targets, what they share, and the Redis that lies to them.
fn is_for_tests(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        ["fuzz", "lying"].contains(&name.trim_end_matches(".rs"))
    })
}

/// The Rust files below a folder that are no tests.
fn sources(folder: &str) -> impl Iterator<Item = (PathBuf, String)> {
    files(folder, "rs").into_iter().filter(|(path, _)| !is_for_tests(path))
}

fn scripts() -> Vec<(PathBuf, String)> {
    files("scripts/lua", "lua")
}

/// True for the file of this name in a module that has Lua files.
fn is_one_of(path: &Path, file: &str) -> bool {
    WITH_SCRIPTS.iter().any(|module| path == Path::new("src").join(module).join(file))
}

/// The text before the tests at the end of the file.
fn code(text: &str) -> &str {
    let tests = ["#[cfg(test)]\nmod fuzz;\n\n#[cfg(test)]", "#[cfg(test)]\nmod tests {"];
    tests.iter().find_map(|tests| text.split_once(tests)).map_or(text, |(code, _)| code)
}

fn module(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

/// The modules that a text names as `crate::x`, also in `use crate::{x, y::z}`.
fn imported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(character),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.to_owned());
        }
    }
    let first_word = |name: &String| -> String {
        name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    names.iter().map(first_word).filter(|name| rank(name).is_some()).collect()
}

#[test]
fn imports_point_one_way() {
    for (path, text) in sources("src") {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let own_rank =
            rank(&own).unwrap_or_else(|| panic!("{}: `{own}` has no place in ORDER", path.display()));
        for name in imported(code(&text)) {
            let allowed = rank(&name).expect("filtered") <= own_rank;
            assert!(allowed, "{}: `{own}` must not import `{name}`", path.display());
        }
    }
}

#[test]
fn imports_are_read_from_every_form() {
    let text =
        "use crate::{\n    error::{Error, Result},\n    types::DueAt,\n};\nlet x = crate::queue::Queue;";
    assert_eq!(imported(text), ["error", "types", "queue"]);
}

#[test]
fn only_the_key_modules_spell_keys() {
    for (path, text) in sources("src") {
        let spelled = code(&text).contains(":{{");
        assert_eq!(spelled, is_one_of(&path, "keys.rs"), "{}", path.display());
    }
}

#[test]
fn only_the_script_modules_name_lua_files() {
    for (path, text) in sources("src") {
        assert_eq!(text.contains("scripts/lua/"), is_one_of(&path, "scripts.rs"), "{}", path.display());
    }
}

#[test]
fn handlers_never_call_queue_verbs() {
    for (path, text) in sources("src/handler") {
        assert!(!code(&text).contains("Queue"), "{}", path.display());
    }
}

#[test]
fn only_the_composition_root_and_the_commands_see_the_whole_configuration() {
    for (path, text) in sources("src") {
        let sees = code(&text).lines().any(|line| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "Config")
                && !line.trim_start().starts_with("//")
        });
        let may = ["config", "app", "cli"].contains(&module(&path).as_str());
        assert!(may || !sees, "{} names `Config`", path.display());
    }
}

#[test]
fn every_script_has_its_header_and_a_static() {
    let statics = WITH_SCRIPTS.map(|module| {
        fs::read_to_string(root().join("src").join(module).join("scripts.rs")).expect("the statics")
    });
    let statics = statics.concat();
    for (path, text) in scripts() {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("--")).collect();
        assert!(header[0].starts_with(&format!("-- {name}: ")), "{name}: the first line says what it does");
        for part in ["-- KEYS   ", "-- ARGV   ", "-- Reply  "] {
            assert!(header.iter().any(|line| line.starts_with(part)), "{name}: no `{part}`");
        }
        assert!(name.ends_with("lib") || statics.contains(&format!("\"{name}\"")), "{name}: no static");
    }
}

#[test]
fn scripts_are_bounded_and_every_mutating_one_guards_its_keys() {
    /// These only read, or are refused when Redis is full and check the types by reading.
    const WITHOUT_GUARD: [&str; 20] = [
        "lib",
        "find",
        "fire_lib",
        "schedule",
        "reschedule",
        "adopt",
        "show",
        "list",
        "look",
        "counts",
        "coming",
        "order_lib",
        "order_create",
        "order_submit",
        "order_extend",
        "order_get",
        "order_list",
        "order_counts",
        "order_source",
        "order_adopt",
    ];
    /// The lock's check the types by reading, and what they do to a lock that is held needs no memory. A lock is
    /// what has to go by itself: theirs is the only ttl beside that of settled orders.
    const OF_LOCK: &str = "lock_";
    for (path, text) in scripts() {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        for line in text.lines().filter(|line| line.contains("RANGEBYSCORE'")) {
            assert!(line.contains("'LIMIT'"), "{name}: a range without LIMIT: {line}");
        }
        for unbounded in ["HKEYS", "HVALS", "SMEMBERS", "'KEYS'"] {
            assert!(!text.contains(unbounded), "{name}: {unbounded}");
        }
        // The fields of an order are bounded, and it is what may carry a ttl, once it is settled.
        assert!(name.starts_with("order_") || !text.contains("HGETALL"), "{name}: HGETALL");
        let (of_lock, may_expire) =
            (name.starts_with(OF_LOCK), name.starts_with(OF_LOCK) || name == "order_lib");
        assert!(
            may_expire || !["EXPIRE'", "'PX'", "'EX'"].iter().any(|ttl| text.contains(ttl)),
            "{name}: a ttl"
        );
        let ends_orders = text.contains("return end_order("); // which begins with the guard
        let guarded = ends_orders || text.lines().any(|line| line == "guard()" || line == "guard_orders()");
        assert_eq!(guarded, !of_lock && !WITHOUT_GUARD.contains(&name.as_str()), "{name}: guard()");
    }
}

/// What reads text or bytes that others have written.
const PARSES: [&str; 8] = [
    "impl FromStr for",
    "Deserialize<'de> for",
    "derive(Deserialize",
    "serde_json::from_",
    "from_utf8",
    ".parse::<",
    "split_once(",
    "redis::Value",
];

/// Every parser has a fuzz target in its module, or in the one around it.
#[test]
fn every_parser_has_a_fuzz_target() {
    /// They read what is in this repository, or in the test that set it.
    const READ_NO_OTHERS: [&str; 2] = ["src/fault.rs", "src/http/openapi.rs"];
    for (path, text) in sources("src") {
        let parses = PARSES.iter().any(|sign| code(&text).contains(sign));
        if !parses || READ_NO_OTHERS.iter().any(|other| path == Path::new(other)) {
            continue;
        }
        let own = path.with_extension("").join("fuzz.rs");
        let around = path.ancestors().skip(1).take_while(|folder| *folder != Path::new("src"));
        let targets = around.map(|folder| folder.join("fuzz.rs")).chain([own]);
        let has_one = targets.into_iter().any(|target| root().join(target).exists());
        assert!(has_one, "{} reads what others have written, and has no fuzz.rs beside it", path.display());
    }
}

/// A target that is in no table is found by nobody.
#[test]
fn every_module_of_fuzz_targets_is_in_the_documentation() {
    let pages = files("docs", "md").into_iter();
    let pages = pages.filter(|(path, _)| path.to_string_lossy().contains("reliability"));
    let documented: String = pages.map(|(_, text)| text).collect();
    for (path, text) in files("src", "rs").into_iter().filter(|(path, _)| is_for_tests(path)) {
        let module = path.strip_prefix("src").expect("below src").with_extension("");
        let module = module.to_string_lossy().replace('/', "::");
        let named = documented.contains(&format!("`{module}`"));
        assert!(
            named || !text.contains("#[test]") || module == "fuzz",
            "{module} is not in docs/reliability.md"
        );
    }
}

#[test]
fn files_are_short() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(|folder| files(folder, "rs")).chain(scripts());
    for (path, text) in all {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_limits_in_lua_are_those_of_the_types() {
    let lib = fs::read_to_string(root().join("scripts/lua/lib.lua")).expect("lib.lua");
    let line = format!("MIN_DUE, MAX_DUE = {}, {}", overdue::DueAt::MIN_MS, overdue::DueAt::MAX_MS);
    assert!(lib.contains(&line), "lib.lua lacks: {line}");
}

/// What stands between backquotes and looks like the path of a test: `module::name_of_the_test`.
fn named_tests(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        word.contains("::")
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
    };
    quoted.filter(is_path).collect()
}

#[test]
fn the_tests_that_the_reliability_page_names_exist() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).expect("the page");
    let sources: Vec<_> = files("src", "rs").into_iter().chain(files("tests", "rs")).collect();
    let named = named_tests(&page);
    assert!(named.len() > 20, "the page names its tests: {named:?}");
    for name in named {
        let (modules, test) = name.rsplit_once("::").expect("a path");
        let module = modules.split("::").filter(|part| *part != "tests").last().expect("a module");
        // A row of the fuzz targets names their module, which another rule holds.
        let is_module = test == "fuzz" || modules.ends_with("fuzz");
        let is_there = is_module
            || sources.iter().any(|(path, text)| {
                let in_module = path
                    .components()
                    .any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == module);
                in_module && text.contains(&format!("fn {test}("))
            });
        assert!(is_there, "docs/reliability.md names `{name}`, and there is no such test");
    }
}
