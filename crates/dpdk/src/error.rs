//! What can go wrong on the control side, said so that the way out is in the message.

use std::io;
use std::path::PathBuf;

/// An error of this crate. `log` fields hold DPDK's own words, if it said any.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EAL has been started before; DPDK cannot be started twice in a process.
    #[error("EAL was started before in this process; DPDK can be started only once")]
    Started,
    /// Another process runs EAL under this file prefix.
    #[error(
        "EAL is already running with file prefix `{prefix}` (process {pid}); stop that process or \
         give another prefix"
    )]
    PrefixInUse {
        /// The prefix.
        prefix: String,
        /// The process that holds it.
        pid: i32,
    },
    /// The file prefix cannot be a directory's name.
    #[error("file prefix `{0}` must be 1 to 64 letters, digits, `.`, `_` or `-`")]
    BadPrefix(String),
    /// EAL's runtime directory cannot be used.
    #[error("EAL's runtime directory {}: {source}; it needs to be writable", path.display())]
    RuntimeDirectory {
        /// The directory or the file in it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There are fewer huge pages than EAL is to have.
    #[error(
        "huge pages are required, but {free_mib} MiB of {wanted_mib} MiB are free; reserve more \
         (`sysctl vm.nr_hugepages={pages}`) or set huge pages to auto or off"
    )]
    NoHugePages {
        /// Free huge pages of all sizes, in MiB.
        free_mib: u64,
        /// What EAL is to have, in MiB.
        wanted_mib: u64,
        /// The number of 2 MiB pages that would do.
        pages: u64,
    },
    /// A CPU that the machine does not have, or that is off.
    #[error("CPU {cpu} is not online; the machine has CPUs {online}")]
    NoSuchCpu {
        /// The CPU that was asked for.
        cpu: u16,
        /// The kernel's list.
        online: String,
    },
    /// One CPU was given to two workers.
    #[error("CPU {0} is given to more than one worker")]
    CpuTwice(u16),
    /// More workers than DPDK has lcores.
    #[error("{wanted} workers are more than this DPDK has lcores for ({max})")]
    TooManyWorkers {
        /// Workers asked for.
        wanted: usize,
        /// The largest number.
        max: usize,
    },
    /// `rte_eal_init` refused.
    #[error("EAL did not start: {source}{log}")]
    Init {
        /// DPDK's error number.
        source: io::Error,
        /// DPDK's own words.
        log: String,
    },
    /// A device string without a name.
    #[error(
        "`{0}` is no device: expected a PCI address (`0000:81:00.0`) or a DPDK device string (`net_af_packet0,iface=lan0`)"
    )]
    BadDevice(String),
    /// A device was named twice.
    #[error("device `{0}` exists already")]
    DeviceExists(String),
    /// The device needs a privilege that the process does not have.
    #[error("device `{device}` needs {capability}; run as root or give the binary that capability")]
    NotPrivileged {
        /// The device string.
        device: String,
        /// The capability.
        capability: &'static str,
    },
    /// A kernel interface that a device is to stand on does not exist.
    #[error("device `{device}`: there is no interface `{interface}` in this network namespace")]
    NoSuchInterface {
        /// The device string.
        device: String,
        /// The kernel's name of the interface.
        interface: String,
    },
    /// No device at this PCI address.
    #[error("there is no PCI device {0}; `lspci -D` lists those that exist")]
    NoSuchPciDevice(String),
    /// A PCI device given after the start.
    #[error("PCI device {0} has to be named at start-up")]
    PciAfterStart(String),
    /// DPDK could not make an interface of the device.
    #[error("device `{device}` cannot be used: {reason}{log}")]
    Device {
        /// The device string.
        device: String,
        /// What failed.
        reason: String,
        /// DPDK's own words.
        log: String,
    },
    /// No interface of this name.
    #[error("there is no DPDK interface `{0}`")]
    NoSuchPort(String),
    /// The interface is held already.
    #[error("DPDK interface `{0}` is in use already")]
    PortTaken(String),
    /// More of something than the device has.
    #[error("interface `{port}`: {wanted} {what} asked for, the device has {max}")]
    TooMany {
        /// The interface.
        port: String,
        /// What there is too much of.
        what: &'static str,
        /// Asked for.
        wanted: u32,
        /// The largest that goes.
        max: u32,
    },
    /// An MTU outside of what device and mempool can take.
    #[error("interface `{port}`: MTU {wanted} is not within {min} to {max}{reason}")]
    Mtu {
        /// The interface.
        port: String,
        /// Asked for, in bytes.
        wanted: u16,
        /// Smallest, in bytes.
        min: u16,
        /// Largest, in bytes.
        max: u16,
        /// What sets the bound, if it is not the device.
        reason: &'static str,
    },
    /// Queues are being polled, so the interface cannot be changed.
    #[error(
        "interface `{port}`: {queues} queues are in use; their workers have to give them back first"
    )]
    QueuesInUse {
        /// The interface.
        port: String,
        /// How many.
        queues: u32,
    },
    /// The interface has to be stopped for this.
    #[error("interface `{0}` has to be stopped first")]
    PortRunning(String),
    /// The interface has to be started for this.
    #[error("interface `{0}` is not started")]
    PortStopped(String),
    /// The ticket is of an earlier configuration.
    #[error("queue {queue} of interface `{port}` belongs to an earlier configuration of it")]
    StaleTicket {
        /// The interface.
        port: String,
        /// The queue.
        queue: u16,
    },
    /// A DPDK call on an interface failed.
    #[error("interface `{port}`: {what}: {source}{log}")]
    Port {
        /// The interface.
        port: String,
        /// What was tried.
        what: &'static str,
        /// DPDK's error number.
        source: io::Error,
        /// DPDK's own words.
        log: String,
    },
    /// A mempool that DPDK cannot make.
    #[error("mempool `{name}` of {mbufs} mbufs ({mib} MiB): {reason}{log}")]
    Mempool {
        /// The mempool.
        name: String,
        /// Number of mbufs.
        mbufs: u32,
        /// About what it needs, in MiB.
        mib: u64,
        /// What is wrong.
        reason: String,
        /// DPDK's own words.
        log: String,
    },
    /// No such worker lcore.
    #[error("there is no worker lcore {0}")]
    NoSuchLcore(u16),
    /// The lcore runs something already.
    #[error("lcore {0} is busy")]
    LcoreBusy(u16),
    /// A call for an lcore failed.
    #[error("lcore {lcore}: {source}")]
    Lcore {
        /// The lcore.
        lcore: u16,
        /// DPDK's error number.
        source: io::Error,
    },
    /// The thread cannot become one of DPDK's.
    #[error("the thread cannot be registered with DPDK: {0}")]
    Register(io::Error),
}
