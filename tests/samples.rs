//! Proves that every configuration file in `conf/` and every YAML block of a configuration in the book
//! and the README passes `dpnatd --check`, so that what people copy works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{dpnatd, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

#[track_caller]
fn check(file: &Path, what: &str) {
    let checked = run(Command::new(dpnatd()).arg("--check").arg("--config").arg(file));
    assert_eq!(checked.code, 0, "{what}: {}", checked.stderr);
}

#[test]
fn files_in_conf_pass() {
    let mut files = Vec::new();
    files_below(&root().join("conf"), "yaml", &mut files);
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
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
    let mut files = vec![root().join("README.md")];
    files_below(&root().join("docs"), "md", &mut files);
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for file in files {
        for (line, block) in yaml_blocks(&fs::read_to_string(&file).unwrap()) {
            let copy = dir.path().join("block.yaml");
            fs::write(&copy, block).unwrap();
            check(&copy, &format!("{}:{line}", file.display()));
            checked += 1;
        }
    }
    assert!(checked > 0, "the book shows no configuration");
}
