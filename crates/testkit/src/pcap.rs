//! A pcap file of what a test saw, for tcpdump and Wireshark.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use types::Now;

/// Link type: Ethernet.
const ETHERNET: u32 = 1;

/// Writes a capture file (the classic format, microseconds, little endian).
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    out: W,
}

impl PcapWriter<BufWriter<File>> {
    /// Begins a file, in place of one that is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(BufWriter::new(File::create(path)?))
    }
}

impl<W: Write> PcapWriter<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(mut out: W) -> io::Result<Self> {
        // Magic, version 2.4, no time zone, no accuracy, no limit of length, Ethernet.
        for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 0x4_0000, ETHERNET] {
            out.write_all(&u32::to_le_bytes(word))?;
        }
        Ok(Self { out })
    }

    /// Adds a frame, at a test's time.
    ///
    /// # Errors
    /// What the output says.
    pub fn write(&mut self, now: Now, frame: &[u8]) -> io::Result<()> {
        let len = frame.len() as u32;
        for word in [now.tick_ms / 1000, now.tick_ms % 1000 * 1000, len, len] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(frame)
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_of_one_frame() {
        let mut pcap = PcapWriter::new(Vec::new()).unwrap();
        pcap.write(Now::from_ms(2_500), &[7; 60]).unwrap();
        let bytes = pcap.finish().unwrap();
        assert_eq!(bytes[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(bytes[20..24], [1, 0, 0, 0]);
        assert_eq!(bytes[24..28], 2u32.to_le_bytes());
        assert_eq!(bytes[28..32], 500_000u32.to_le_bytes());
        assert_eq!(bytes[32..40], [60, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(bytes[40..], [7; 60]);
    }
}
