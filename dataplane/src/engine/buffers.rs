//! How many packet buffers there must be, so that no queue, ring or hold can starve another.

use config::{Config, Queues};
use dpdk::MempoolConfig;
use nat::fragments::WAITING_MAX;

use super::EngineError;
use crate::path::transmit::GATHERED_MAX;
use crate::worker::handoff::RING;
use crate::worker::held::HELD_MAX;
use crate::worker::kernel::{BULK, DOWN, URGENT};

/// Buffers that each lcore may have in its cache; DPDK takes up to one and a half times that.
const CACHE: u32 = 256;
/// Room of a buffer behind its headroom, in bytes; longer frames take several.
const ROOM: u16 = 2_048;
/// Bytes of a frame around the IP packet: Ethernet header, two VLAN tags.
const FRAME: u64 = 22;

/// Buffers that a frame of an interface may take.
fn segments(interface: &config::Interface) -> u64 {
    (u64::from(interface.mtu) + FRAME).div_ceil(u64::from(ROOM)).max(1)
}

/// The packet buffers of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferPlan {
    /// How many.
    pub buffers: u32,
}

impl BufferPlan {
    /// Counts all places where packets can be at once.
    pub fn new(config: &Config) -> Self {
        let workers = config.workers.cpus.len() as u64;
        let interfaces = || config.interfaces.values();
        // Any packet may be of the largest kind.
        let most = interfaces().map(|interface| segments(interface)).max().unwrap_or(1);
        let has_kni = config.knis().next().is_some();
        let kernel = if has_kni { (URGENT + BULK + DOWN) as u64 } else { 0 };
        let held = HELD_MAX as u64 + WAITING_MAX as u64;
        let packets = held + types::BURST_MAX as u64 + workers * RING as u64 + kernel;
        let mut buffers = workers * (most * packets + u64::from(CACHE) * 3 / 2);
        for interface in interfaces() {
            let rx_queues = match interface.queues {
                Queues::Auto => workers,
                Queues::Count(count) => u64::from(count).min(workers),
            };
            buffers += segments(interface)
                * (rx_queues * u64::from(interface.rx_descriptors)
                    + workers * u64::from(interface.tx_descriptors));
            buffers += most * workers * GATHERED_MAX as u64;
        }
        // The main lcore makes packets too, and so does the thread of the kernel's interfaces.
        buffers += u64::from(CACHE) * 3 / 2 * (1 + u64::from(has_kni));
        Self { buffers: u32::try_from(buffers.next_power_of_two() - 1).unwrap_or(u32::MAX) }
    }

    /// The mempool of this plan.
    pub fn mempool(self) -> MempoolConfig {
        MempoolConfig {
            name: "dpnat".to_owned(),
            mbufs: self.buffers,
            cache: CACHE,
            room: ROOM,
            numa_node: None,
        }
    }

    /// Memory that the buffers take, in bytes.
    pub fn bytes(self) -> u64 {
        self.mempool().bytes()
    }

    /// # Errors
    /// If they do not fit the configured memory.
    pub fn check(self, config: &Config) -> Result<(), EngineError> {
        // DPDK's own rings, queues and bookkeeping beside the buffers.
        const OVERHEAD: u64 = 32 << 20;
        let needed = self.bytes() + OVERHEAD;
        if needed <= config.memory.as_bytes() {
            return Ok(());
        }
        Err(EngineError::Memory {
            configured_mib: config.memory.as_bytes() >> 20,
            needed_mib: needed.div_ceil(1 << 20),
            buffers: self.buffers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mtu: u16) -> u64 {
        let text = format!(
            "workers: {{ cpus: '1-2' }}\ninterfaces: {{ wan0: {{ device: net_null0, mtu: {mtu} }} }}\n"
        );
        let (model, _) = config::load(&text, "test.yaml").unwrap();
        BufferPlan::new(&model).buffers.into()
    }

    #[test]
    fn held_and_handed_packets_may_all_be_jumbo_frames() {
        let packets = 2 * (HELD_MAX + types::BURST_MAX + RING + GATHERED_MAX + 2 * 1024) as u64;
        assert!(plan(1500) >= packets);
        assert!(plan(9000) >= 5 * packets, "{} of {packets}", plan(9000));
    }
}
