//! What a failing test leaves behind: its packets, its counters, its conns.

use std::fmt::Write as _;
use std::path::PathBuf;

use testkit::PcapWriter;

use super::Testbed;

impl Drop for Testbed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            match self.write_evidence() {
                Ok(file) => eprintln!("packets and state: {}.pcap, .txt", file.display()),
                Err(error) => eprintln!("no packets and state: {error}"),
            }
        }
    }
}

impl Testbed {
    fn write_evidence(&self) -> std::io::Result<PathBuf> {
        // Cargo names its own folder to tests only, and the bed is the fuzz targets', too.
        let folder =
            option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = folder.join("path");
        std::fs::create_dir_all(&folder)?;
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("test").replace("::", ".");
        let mut pcap = PcapWriter::create(folder.join(format!("{name}.pcap")))?;
        for (now, frame) in &self.capture {
            pcap.write(*now, frame)?;
        }
        pcap.finish()?;
        std::fs::write(folder.join(format!("{name}.txt")), self.dump())?;
        Ok(folder.join(name))
    }

    fn dump(&self) -> String {
        let mut text = format!("at {} ms\n", self.clock.ms());
        let changes = self.ledger().changes(&self.before);
        let _ = writeln!(text, "since the last expectation: {changes}");
        for event in &self.told {
            let _ = writeln!(text, "told: {event:?}");
        }
        for record in self.records() {
            let _ = writeln!(text, "{record:#?}");
        }
        text
    }
}
