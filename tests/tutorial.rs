//! Proves that the commands of the tutorial work as they stand there, and that the answer is the one it
//! promises.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Arm, Lab, Load, dpnatd, run};

/// The fenced blocks of a text in one language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn it_works_as_it_is_written() {
    // The lab is not used but for its directory, and for the question whether we are root.
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, by_hand) = page.split_once("## Do it by hand").expect("the part by hand");
    let (by_hand, _) = by_hand.split_once("## On real cards").expect("its end");

    // Names of namespaces of its own, so that it meets no one else's.
    let mut script = "set -eu\nmount -t tmpfs none /run/netns\n".to_owned();
    for block in blocks(by_hand, "sh") {
        for line in block.lines() {
            writeln!(script, "{line}").unwrap();
            if line.ends_with('&') {
                // A reader is not faster.
                script.push_str("sleep 1.5\n");
            }
        }
    }
    let dir = format!("{}/", lab.dir.display());
    let binaries = dpnatd().parent().unwrap();
    let script = script
        .replace("/tmp/", &dir)
        .replace("target/release/", &format!("{}/", binaries.display()));
    fs::write(lab.path("dpnat.yaml"), blocks(by_hand, "yaml")[0]).unwrap();
    fs::write(lab.path("tutorial.sh"), &script).unwrap();

    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--mount", "--propagation", "private", "bash"]);
    command.arg(lab.path("tutorial.sh")).env("DPNAT_STATE", lab.path("state"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", binaries.display()));
    let done = run(&mut command).ok();
    assert!(done.stdout.contains("hello, 198.18.0.10"), "{}", done.stdout);
    assert!(done.stdout.contains("the configuration is valid"), "{}", done.stdout);
}
