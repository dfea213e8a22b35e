//! Proves that the reader of TCP options which runs in the kernel finds what the balancer's own reader
//! (`wire`) finds, in any bytes.
//!
//! The same C source is compiled for this machine, and asked about many lines of options at once.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use wire::tcp_options;

const CASES: usize = 20_000;

/// Port and address of the first whole option 254, as `wire` reads it.
fn expected(options: &[u8]) -> String {
    let client = tcp_options::iter(options)
        .find(|option| option.kind == tcp_options::TOA && [6, 18].contains(&option.data.len()));
    client.map_or(String::new(), |option| hex(option.data))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Compiles the reader and gives it the lines; its answers.
fn read(lines: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("options");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/csrc/options.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-o"];
    let built = Command::new(compiler).args(flags).arg(&program).arg(source).status();
    assert!(built.unwrap().success());
    let mut command = Command::new(&program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the sanitizers found something");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// One option as stacks and balancers send them, or as nobody does.
fn option() -> impl Strategy<Value = Vec<u8>> {
    let sized = |kind: u8, len: usize| {
        vec(any::<u8>(), len).prop_map(move |data| {
            let mut option = vec![kind, data.len() as u8 + 2];
            option.extend(data);
            option
        })
    };
    prop_oneof![
        3 => Just(vec![1]),
        3 => sized(254, 6),
        2 => sized(254, 18),
        2 => sized(8, 8),
        1 => sized(5, 8),
        1 => Just(vec![0]),
        1 => (0usize..20).prop_flat_map(move |len| sized(254, len)),
        // A length that lies.
        1 => (any::<u8>(), any::<u8>()).prop_map(|(kind, len)| vec![kind, len]),
        1 => (0u8..30).prop_map(|len| vec![254, len]),
    ]
}

#[test]
fn the_kernel_reads_options_as_the_balancer_does() {
    let mut runner = TestRunner::default();
    let strategy = vec(option(), 0..8).prop_map(|options| {
        let mut bytes = options.concat();
        // What a header has: words of four bytes, ten at most.
        bytes.resize(bytes.len().next_multiple_of(4).min(tcp_options::MAX_LEN), 0);
        bytes
    });
    let cases: Vec<Vec<u8>> =
        (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let lines: String = cases.iter().map(|case| hex(case) + "\n").collect();
    let answers = read(&lines);
    assert_eq!(answers.len(), cases.len());
    let mut found = 0;
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(*answer, expected(case), "{}", hex(case));
        found += usize::from(!answer.is_empty());
    }
    assert!(found > CASES / 4, "{found} with a client among {CASES}");
}

#[test]
fn every_place_an_option_can_have() {
    let option = [254, 8, 0x12, 0x34, 192, 0, 2, 1];
    let option6: Vec<u8> = [254, 20].into_iter().chain(0..18).collect();
    let mut cases = Vec::new();
    for option in [&option[..], &option6] {
        for at in 0..=40 - option.len() {
            let mut bytes = vec![1; at];
            bytes.extend(option);
            bytes.resize(40, 0);
            // Whole, and with each of its last bytes missing.
            cases.push(bytes.clone());
            cases.extend((at..at + option.len()).map(|len| bytes[..len].to_vec()));
        }
    }
    let lines: String = cases.iter().map(|case| hex(case) + "\n").collect();
    for (case, answer) in cases.iter().zip(read(&lines)) {
        assert_eq!(answer, expected(case), "{}", hex(case));
    }
}
