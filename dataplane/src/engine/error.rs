//! Why the engine does not start.

/// Why the engine does not start, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// DPDK says no.
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    /// An interface has not as many receive queues as configured.
    #[error(
        "interfaces.{interface}.queues: {count} are more than its {most}; take `auto` or {most}"
    )]
    Queues {
        /// The interface.
        interface: String,
        /// Queues configured.
        count: u16,
        /// Queues that it has.
        most: u16,
    },
    /// Some of the receive queues would be polled by nobody.
    #[error(
        "interfaces.{interface}.queues: packets arrive on {has} queues and workers would poll {polled}; take \
         `auto`, and as many queues as there are CPUs in `workers.cpus`, or fewer"
    )]
    Unpolled {
        /// The interface.
        interface: String,
        /// Queues on which packets arrive.
        has: u16,
        /// Queues that are polled.
        polled: u16,
    },
    /// Each worker needs a transmit queue of its own on each interface.
    #[error(
        "interfaces.{interface} has {most} transmit queues for {workers} workers; name at most {most} \
         CPUs in `workers.cpus`"
    )]
    Workers {
        /// The interface.
        interface: String,
        /// Workers configured.
        workers: u16,
        /// Queues that it has.
        most: u16,
    },
    /// The packet buffers do not fit DPDK's memory.
    #[error(
        "memory: {configured_mib} MiB are too little: the packet buffers need {needed_mib} MiB \
         ({buffers} for all queues, rings and held packets); set `memory: {needed_mib}MiB` or fewer descriptors"
    )]
    Memory {
        /// Configured, in MiB.
        configured_mib: u64,
        /// Needed, in MiB.
        needed_mib: u64,
        /// How many buffers.
        buffers: u32,
    },
    /// The kernel's interface cannot be made.
    #[error("the KNI of `{interface}`: {source}")]
    Kni {
        /// The interface.
        interface: String,
        /// Why not.
        source: kni::Error,
    },
    /// The thread that serves the kernel's interfaces cannot be started.
    #[error("no thread for the kernel's interfaces: {0}")]
    Pump(std::io::Error),
    /// The engine was stopped before its workers were launched.
    #[error("the engine has been stopped")]
    Stopped,
}
