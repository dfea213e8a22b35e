//! Two processes do not run under one file prefix.

use std::process::Command;

use dpdk::{Eal, EalOptions, Error, HugePages};

/// Tells the second process which prefix to try.
const PREFIX_VARIABLE: &str = "DPDK_TEST_PREFIX";

fn options(prefix: &str) -> EalOptions {
    EalOptions {
        memory_mib: 32,
        huge_pages: HugePages::Off,
        file_prefix: Some(prefix.to_owned()),
        ..EalOptions::default()
    }
}

#[test]
fn second_instance_is_refused() {
    if let Ok(prefix) = std::env::var(PREFIX_VARIABLE) {
        match Eal::start(&options(&prefix)) {
            Err(Error::PrefixInUse { pid, .. }) => println!("held by {pid}"),
            other => println!("got {other:?}"),
        }
        return;
    }
    let prefix = format!("dpnat-test-{}", std::process::id());
    let second = || {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "second_instance_is_refused", "--nocapture"])
            .env(PREFIX_VARIABLE, &prefix)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let eal = Eal::start(&options(&prefix)).unwrap();
    let directory = eal.runtime_directory().to_owned();
    let said = second();
    assert!(said.contains(&format!("held by {}", std::process::id())), "{said}");
    assert!(directory.join("config").exists(), "the refused one must not clean up");
    drop(eal);
    assert!(!directory.exists());
    let said = second();
    assert!(said.contains("got Ok"), "{said}");
    assert!(!directory.exists());
}
