//! Compiles what the kernel runs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCES: [&str; 3] = ["csrc/dptoa.bpf.c", "csrc/options.h", "csrc/udp.h"];

fn main() {
    SOURCES.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    println!("cargo:rerun-if-env-changed=CLANG");
    // The root's build.rs asks for the grammar only, and needs no compiler for it.
    if env::var_os("CARGO_FEATURE_AGENT").is_some() {
        compile();
    }
}

fn compile() {
    let Some(out) = env::var_os("OUT_DIR") else { fail("OUT_DIR is not set") };
    let object = PathBuf::from(out).join("dptoa.bpf.o");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(&clang);
    // -g: the kernel is told the types of the maps. Which machine this is matters to no line of it.
    command.args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    if let Ok(machine) = env::var("CARGO_CFG_TARGET_ARCH") {
        // Where Debian has the kernel's headers of this architecture.
        let headers = format!("/usr/include/{machine}-linux-gnu");
        if Path::new(&headers).exists() {
            command.arg(format!("-I{headers}"));
        }
    }
    match command.args(["-c", SOURCES[0], "-o"]).arg(&object).status() {
        Ok(status) if status.success() => {}
        Ok(_) => fail(
            "clang could not compile csrc/dptoa.bpf.c (above). It needs the kernel's and libbpf's headers: \
             `apt-get install libbpf-dev linux-libc-dev` (Debian, Ubuntu) or `dnf install libbpf-devel \
             kernel-headers` (Fedora)",
        ),
        Err(e) => fail(&format!(
            "{clang} could not be run: {e}. It compiles what the kernel runs: `apt-get install clang`, or \
             set CLANG"
        )),
    }
}

/// Ends the build with a message that stands alone, without a backtrace around it.
fn fail(message: &str) -> ! {
    eprintln!("\ntoa: {message}\n");
    exit(1);
}
