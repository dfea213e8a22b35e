//! Proves that every configuration file in `conf/` and every YAML block of a configuration in the book
//! and the README passes `dpnatd --check`, so that what people copy works.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{dpnatd, files, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn check(file: &Path, what: &str) {
    let checked = run(Command::new(dpnatd()).arg("--check").arg("--config").arg(file));
    assert_eq!(checked.code, 0, "{what}: {}", checked.stderr);
}

#[test]
fn files_in_conf_pass() {
    let mut found = Vec::new();
    files(&root().join("conf"), "yaml", &mut found);
    assert!(found.len() >= 3, "{found:?}");
    for file in found {
        check(&file, &file.display().to_string());
    }
}

/// Blocks of a Markdown text that are marked as YAML, with the line that each begins at.
fn yaml_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut block {
            None if line.trim() == "```yaml" => block = Some((index + 2, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(block.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn blocks_in_the_book_pass() {
    let mut pages = vec![root().join("README.md")];
    files(&root().join("docs"), "md", &mut pages);
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for file in pages {
        for (line, block) in yaml_blocks(&fs::read_to_string(&file).unwrap()) {
            let copy = dir.path().join("block.yaml");
            fs::write(&copy, block).unwrap();
            check(&copy, &format!("{}:{line}", file.display()));
            checked += 1;
        }
    }
    assert!(checked > 0, "the book shows no configuration");
}
