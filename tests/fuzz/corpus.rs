//! Every input of the corpus keeps all promises: those that found a fault stay there.

use std::path::Path;

fn each(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has few files", folder.display());
    for file in files {
        println!("{}", file.display());
        check(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn parse() {
    each("parse", fuzz::parse);
}

#[test]
fn path() {
    each("path", fuzz::path);
}

#[test]
fn proto() {
    each("proto", fuzz::proto);
}

#[test]
fn conf() {
    each("conf", fuzz::conf);
}
