//! `dptoa`: shows a real server its clients' addresses.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    toa::main(toa::Build { version: env!("CARGO_PKG_VERSION"), commit: env!("DPNAT_COMMIT") })
}
