//! The processes, started and asked for what they count.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Failure, GENERATOR, WORKER, device, other};

/// Packets a second, and what each cost.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Million packets a second that went through, both directions counted.
    pub mpps: f64,
    /// Cycles for a packet in loops that had some.
    pub cycles: f64,
    /// Packets that did not come back.
    pub lost: u64,
}

/// A process with its standard input and output; it ends with this.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    is_testpmd: bool,
}

impl Process {
    /// The generator.
    pub fn generator(
        directory: &Path,
        conns: u32,
        seconds: u32,
        cpu: u16,
    ) -> Result<Self, Failure> {
        let mut command = ourselves(GENERATOR, directory, conns, cpu)?;
        command.args(["--seconds", &seconds.to_string()]);
        Self::start(command, false)
    }

    /// dpnat's worker.
    pub fn worker(directory: &Path, conns: u32, cpu: u16) -> Result<Self, Failure> {
        Self::start(ourselves(WORKER, directory, conns, cpu)?, false)
    }

    /// testpmd in the mode that swaps addresses and ports, as a NAT writes them.
    pub fn testpmd(directory: &Path, cpu: u16) -> Result<Self, Failure> {
        const MEMORY_MIB: u32 = 128;
        let mut command = Command::new("dpdk-testpmd");
        command.args([
            "-l",
            &format!("{},{cpu}", other(cpu)),
            "--main-lcore",
            &other(cpu).to_string(),
        ]);
        command.args(["-m", &MEMORY_MIB.to_string(), "--no-pci", "--no-telemetry"]);
        command.args(["--file-prefix", &format!("bench-{}", std::process::id())]);
        if free_huge_pages() * 2 >= MEMORY_MIB {
            command.arg("--in-memory");
        } else {
            command.args(["--no-huge", "--no-shconf"]);
        }
        for interface in 0..2 {
            command.args(["--vdev", &device(directory, interface, "client")]);
        }
        command.args(["--", "--forward-mode=5tswap", "--record-core-cycles", "--burst=32"]);
        command.args(["--total-num-mbufs=16384", "--no-mlockall"]);
        Self::start(command, true)
    }

    fn start(mut command: Command, is_testpmd: bool) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let command = if is_testpmd { command.stderr(Stdio::null()) } else { command };
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.ok_or("no standard output")?);
        Ok(Self { child, input, output, is_testpmd })
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    /// Packets and busy cycles of dpnat's worker so far.
    fn counts(&mut self) -> Result<(f64, f64), Failure> {
        if self.is_testpmd {
            return Ok((0.0, 0.0));
        }
        writeln!(self.input.as_mut().ok_or("no standard input")?)?;
        let line = self.line()?;
        let (packets, cycles) = line.trim().split_once(' ').ok_or("the worker does not answer")?;
        Ok((packets.parse()?, cycles.parse()?))
    }

    /// Stops it by the end of its input and gives the rest of its output.
    fn stop(mut self) -> Result<String, Failure> {
        if let Some(mut input) = self.input.take() {
            // testpmd ends at the first line.
            let _ = writeln!(input);
        }
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After an error it may still run; it is gone already otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ourselves(what: &str, directory: &Path, conns: u32, cpu: u16) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--serve", what, "--conns", &conns.to_string(), "--cpu", &cpu.to_string()]);
    command.arg("--directory").arg(directory);
    Ok(command)
}

fn free_huge_pages() -> u32 {
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Waits for the generator and asks the peer what it counted meanwhile.
pub fn throughput(mut generator: Process, mut peer: Process) -> Result<Throughput, Failure> {
    if generator.line()?.trim() != "begin" {
        return Err("the generator has not begun".into());
    }
    let (packets, cycles) = peer.counts()?;
    let line = generator.line()?;
    let (packets_then, cycles_then) = peer.counts()?;
    let mut words = line.split_whitespace().skip(1);
    let (mpps, lost) =
        (words.next().ok_or("no figure")?.parse()?, words.next().ok_or("no figure")?);
    let is_testpmd = peer.is_testpmd;
    let rest = peer.stop()?;
    generator.stop()?;
    let cycles = if is_testpmd {
        testpmd_cycles(&rest).ok_or("testpmd has not said its cycles for a packet")?
    } else {
        (cycles_then - cycles) / (packets_then - packets)
    };
    Ok(Throughput { mpps, cycles, lost: lost.parse()? })
}

fn testpmd_cycles(output: &str) -> Option<f64> {
    let (_, rest) = output.split_once("CPU cycles/packet=")?;
    rest.split_whitespace().next()?.parse().ok()
}
