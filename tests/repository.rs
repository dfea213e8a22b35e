//! Proves of the tree itself that
//! - the arrows between crates point one way, as `docs/architecture.md` says;
//! - every dependency is used and has its reason in `docs/dependencies.md`;
//! - `unsafe` is forbidden everywhere but in the crates that are there for it;
//! - no file has more than 500 lines before its tests;
//! - links in the book lead somewhere, and every page is in its summary;
//! - the tables of the book that list what the code has are what the code has;
//! - the RFC matrix has every clause, and names tests that there are.
//!
//! `UPDATE_BOOK=1 cargo test --test e2e repository` writes those tables anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use counters::{Event, Gauge, Source};
use types::Verdict;

use crate::common::{files, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What each crate of ours may stand on.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("arch", &["types"]),
    ("wire", &["types"]),
    ("flow", &["types", "arch", "wire"]),
    ("pool", &["types", "arch", "wire"]),
    ("steer", &["types", "arch", "wire"]),
    ("balance", &["types", "arch", "wire"]),
    ("fib", &["types", "arch", "wire"]),
    ("counters", &["types", "arch", "wire"]),
    ("nat", &["types", "arch", "wire", "flow", "pool", "steer", "balance", "fib", "counters"]),
    ("testkit", &["types", "wire"]),
    ("config", &["types"]),
    ("api", &["types", "config"]),
    ("ctl", &["types", "config", "api"]),
    ("dpdk-sys", &[]),
    ("dpdk", &["types", "dpdk-sys"]),
    ("kni", &["types", "dpdk"]),
    ("health", &["types", "config", "kni"]),
    (
        "dataplane",
        &[
            "types", "arch", "wire", "flow", "pool", "steer", "balance", "fib", "counters", "nat",
            "config", "api", "dpdk", "kni", "health",
        ],
    ),
    ("toa", &[]),
    ("dpnat", &["dataplane", "ctl", "toa"]),
    (
        "fuzz",
        &[
            "types",
            "wire",
            "flow",
            "pool",
            "steer",
            "balance",
            "nat",
            "fib",
            "counters",
            "config",
            "api",
            "dataplane",
            "testkit",
        ],
    ),
];

/// The crates with `unsafe`, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("arch", "prefetch, SIMD and memory maps"),
    ("dpdk-sys", "bindings of C"),
    ("dpdk", "calls them"),
    ("kni", "kernel devices"),
    ("toa", "links of the kernel"),
];

fn metadata() -> serde_json::Value {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let out = run(command.current_dir(root())).ok().stdout;
    serde_json::from_str(&out).unwrap()
}

#[test]
fn arrows_point_one_way() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is new: give it arrows"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let ours = ARROWS.iter().any(|(known, _)| *known == on);
            let wanted = dependency["kind"].is_null();
            assert!(!wanted || !ours || allowed.contains(&on), "{name} must not stand on {on}");
        }
    }
}

/// The names between a heading of the root manifest and the next one.
fn workspace_dependencies() -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lines = text.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let others = lines.filter(|line| !line.contains("path = ") && !line.starts_with('#'));
    others.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
}

#[test]
fn every_dependency_has_a_reason_and_a_use() {
    let mut used = Vec::new();
    for package in metadata()["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        used.extend(dependencies.map(|dependency| {
            let name = dependency["rename"].as_str().or(dependency["name"].as_str());
            name.unwrap().to_owned()
        }));
    }
    let listed = workspace_dependencies();
    assert!(listed.len() > 20, "{listed:?}");
    let book = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut explained: Vec<_> = book
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, why)| {
            assert!(why.len() > 10, "docs/dependencies.md: {name} has no reason");
            name.to_owned()
        })
        .collect();
    explained.sort();
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(explained, sorted, "docs/dependencies.md and Cargo.toml differ");
    for name in listed {
        assert!(used.contains(&name), "Cargo.toml: nobody uses {name}");
    }
}

#[test]
fn unsafe_is_where_it_belongs() {
    for (name, _) in ARROWS.iter().filter(|(name, _)| *name != "dpnat") {
        let folders = ["", "crates", "tests"].map(|parent| root().join(parent).join(name));
        let folder = folders.iter().find(|folder| folder.exists()).expect("a crate's folder");
        let libraries = [folder.join("src/lib.rs"), folder.join("lib.rs")];
        let library = libraries.iter().find(|library| library.exists()).expect("a library");
        let text = fs::read_to_string(library).unwrap();
        let forbidden = text.contains("#![forbid(unsafe_code)]");
        let expected = !UNSAFE.iter().any(|(known, _)| known == name);
        assert!(forbidden || !expected, "{}: forbid(unsafe_code) is missing", library.display());
    }
}

#[test]
fn files_are_short() {
    let mut sources = Vec::new();
    for folder in ["crates", "dataplane", "ctl", "kni", "health", "tests", "benches"] {
        files(&root().join(folder), "rs", &mut sources);
    }
    // Tests beside a crate's code are as many as it takes.
    sources.retain(|file| !file.ends_with("tests.rs"));
    for file in sources {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        assert!(lines <= 500, "{} has {lines} lines before its tests", file.display());
    }
}

/// Targets of Markdown links, without those on the network.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let docs = root().join("docs");
    files(&docs, "md", &mut pages);
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for page in &pages {
        if let Ok(name) = page.strip_prefix(&docs) {
            let name = name.to_str().unwrap();
            assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name}");
        }
        for link in links(&fs::read_to_string(page).unwrap()) {
            let (path, wanted) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !wanted.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|heading| anchor(heading) == wanted);
                assert!(found, "{}: {link} has no such heading", page.display());
            }
        }
    }
}

/// Compares the part of a page between `<!-- name -->` and `<!-- end -->` with `text`; with
/// `UPDATE_BOOK` in the environment it writes it there.
fn same_in_book(page: &str, name: &str, text: &str) {
    let file = root().join("docs").join(page);
    let old = fs::read_to_string(&file).unwrap();
    let begin = format!("<!-- {name} -->\n");
    let (head, rest) = old.split_once(&begin).unwrap_or_else(|| panic!("{page}: no {begin}"));
    let (table, tail) = rest.split_once("<!-- end -->").expect("an end");
    if std::env::var_os("UPDATE_BOOK").is_some() {
        fs::write(&file, format!("{head}{begin}{text}<!-- end -->{tail}")).unwrap();
    } else {
        let first = table.lines().zip(text.lines()).find(|(old, new)| old != new);
        assert!(table == text, "{page} is old, see the head of tests/repository.rs: {first:?}");
    }
}

#[test]
fn the_book_lists_every_key_of_the_configuration() {
    same_in_book("configuration.md", "keys", &format!("{}\n", config::markdown().trim_start()));
}

/// A command with what it takes, and its verbs, as paragraphs.
fn describe(command: &mut clap::Command, name: &str, level: usize, text: &mut Vec<String>) {
    text.push(format!("{} `{name}`", "#".repeat(level)));
    text.push(format!("{}.", command.get_about().map(ToString::to_string).unwrap_or_default()));
    if !command.has_subcommands() {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace(" [OPTIONS]", " [OPTION]…");
        text.push(format!("```text\n{usage}\n```"));
    }
    let own =
        |arg: &&clap::Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
    let list: Vec<String> = command.get_arguments().filter(own).map(argument).collect();
    if !list.is_empty() {
        text.push(list.join("\n"));
    }
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let full = format!("{name} {}", verb.get_name());
        describe(verb, &full, level + 1, text);
    }
}

fn argument(arg: &clap::Arg) -> String {
    let name = match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => arg.get_value_names().map_or(String::new(), |names| names[0].to_string()),
    };
    let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    if values.is_empty() || !arg.get_action().takes_values() {
        return format!("- `{name}`: {meaning}");
    }
    format!("- `{name}`: {meaning}: {}", values.join(", "))
}

#[test]
fn the_book_lists_every_command() {
    for (page, mut command) in
        [("cli.md", ctl::cli::command()), ("client-address.md", toa::cli::command())]
    {
        command.build();
        let mut text = Vec::new();
        for object in command.get_subcommands_mut().filter(|object| object.get_name() != "help") {
            let name = object.get_name().to_owned();
            describe(object, &name, 3, &mut text);
        }
        same_in_book(page, "commands", &format!("{}\n", text.join("\n\n")));
    }
}

/// The tests among the functions of a source: between the attribute and the function stand other attributes and comments.
/// One that is ignored does not run, and shows nothing.
fn tests_of(text: &str) -> Vec<&str> {
    let (mut found, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if line == "#[test]" || (line.starts_with("#[") && line.contains("::test")) {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_test = false;
        } else if let Some((name, _)) =
            line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))
        {
            found.extend(is_test.then_some(name));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    found
}

#[test]
fn only_tests_are_evidence() {
    let text = "#[test]\n/// Why.\n#[cfg(x)]\nfn a() {}\nfn b() {}\n#[test]\nconst C: u8 = 1;\nfn d() {}\n#[test]\n#[ignore]\nfn e() {}";
    assert_eq!(tests_of(text), ["a"]);
}

/// The tests of all sources, as `<module>::<function>`.
fn functions() -> Vec<String> {
    let mut sources = Vec::new();
    for folder in ["crates", "dataplane", "ctl", "kni", "health", "tests"] {
        files(&root().join(folder), "rs", &mut sources);
    }
    let mut found = Vec::new();
    for file in sources {
        let text = fs::read_to_string(&file).unwrap();
        let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module =
            if file.ends_with("tests.rs") { stem(file.parent().unwrap()) } else { stem(&file) };
        found.extend(tests_of(&text).iter().map(|name| format!("{module}::{name}")));
    }
    found
}

#[test]
fn the_rfc_matrix_names_tests_that_there_are() {
    let matrix = fs::read_to_string(root().join("docs/rfc-matrix.md")).unwrap();
    let functions = functions();
    let mut rfc = "";
    let mut clauses: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let mut named = Vec::new();
    for line in matrix.lines() {
        if let Some(heading) = line.strip_prefix("## RFC ") {
            rfc = heading.split(':').next().unwrap();
        }
        let Some((clause, rest)) = line.strip_prefix("| ").and_then(|row| row.split_once(" | "))
        else {
            continue;
        };
        let number = clause.trim_start_matches("REQ-").trim_start_matches('§');
        let number = number.split([' ', ',', '.']).next().unwrap();
        clauses.entry(rfc).or_default().extend(number.parse::<u32>());
        let evidence = rest.split_once(" | ").map_or("", |(_, evidence)| evidence);
        assert!(evidence.len() > 5, "{line}");
        let quoted = evidence.split('`').skip(1).step_by(2);
        for test in quoted.filter(|quoted| quoted.contains("::")) {
            assert!(functions.iter().any(|function| function == test), "RFC {rfc}: no {test}");
            named.push(test);
        }
    }
    for (rfc, first, last) in [
        ("4787", 1, 14),
        ("5382", 1, 10),
        ("5508", 1, 11),
        ("6888", 1, 15),
        ("7857", 2, 12),
        ("7915", 4, 7),
        ("4443", 2, 2),
        ("4861", 3, 4),
        ("3810", 5, 5),
    ] {
        let missing: Vec<u32> = (first..=last).filter(|n| !clauses[rfc].contains(n)).collect();
        assert!(missing.is_empty(), "RFC {rfc} has clauses {missing:?} too");
        for function in &functions {
            let (_, name) = function.split_once("::").unwrap();
            let listed = named.iter().any(|test| *test == function);
            assert!(listed || !name.starts_with(&format!("rfc{rfc}_")), "{function} is not listed");
        }
    }
}

fn table(rows: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let mut text = "| counter | what it counts |\n|---|---|\n".to_owned();
    rows.for_each(|(name, help)| writeln!(text, "| `{name}` | {help} |").unwrap());
    text
}

#[test]
fn the_book_lists_every_counter() {
    let verdicts = || Verdict::ALL.iter().map(|verdict| (verdict.name(), verdict.help(), *verdict));
    let ends = verdicts().filter(|(.., verdict)| !verdict.is_drop()).map(|(n, h, _)| (n, h));
    let drops = verdicts().filter(|(.., verdict)| verdict.is_drop()).map(|(n, h, _)| (n, h));
    same_in_book("counters.md", "ends", &table(ends));
    same_in_book("counters.md", "drops", &table(drops));
    same_in_book(
        "counters.md",
        "sources",
        &table(Source::ALL.iter().map(|s| (s.name(), s.help()))),
    );
    same_in_book("counters.md", "gauges", &table(Gauge::ALL.iter().map(|g| (g.name(), g.help()))));
    same_in_book(
        "client-address.md",
        "counters",
        &table(toa::Counter::ALL.iter().map(|c| (c.name(), c.help()))),
    );
    same_in_book("counters.md", "events", &table(Event::ALL.iter().map(|e| (e.name(), e.help()))));
}
