//! `dpctl`: shows and changes what the daemon does.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ctl::main(ctl::Build { version: env!("CARGO_PKG_VERSION"), commit: env!("DPNAT_COMMIT") })
}
