//! The daemon's entry.

fn main() -> std::process::ExitCode {
    dataplane::run()
}
