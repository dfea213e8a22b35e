//! The daemon's entry.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    dataplane::run(env!("DPNAT_COMMIT"))
}
