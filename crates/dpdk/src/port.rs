//! Interfaces: their configuration, and their start and stop.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::EthPortId;

use crate::eal::Core;
use crate::ffi::check;
use crate::queue::{RxTicket, TxTicket};
use crate::{DeviceInfo, Error, Mempool, log};

/// Bytes of a frame around the IP packet: Ethernet header, two VLAN tags, frame check sequence.
const FRAME_OVERHEAD: u32 = dpdk_sys::RTE_ETHER_HDR_LEN + 2 * 4 + dpdk_sys::RTE_ETHER_CRC_LEN;

/// How an interface is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// RX queues.
    pub rx_queues: u16,
    /// TX queues.
    pub tx_queues: u16,
    /// Descriptors for each RX queue; the device may round them.
    pub rx_descriptors: u16,
    /// Descriptors for each TX queue; the device may round them.
    pub tx_descriptors: u16,
    /// The largest IP packet, in bytes; as the device has it if not given.
    pub mtu: Option<u16>,
    /// Receive what is for other MAC addresses too.
    pub promiscuous: bool,
    /// Receive what is for any group of stations, too.
    pub all_multicast: bool,
    /// Spread packets over the RX queues by the device's hash, where it has one.
    pub rss: bool,
    /// Have the device take VLAN tags out of frames and put them in, as far as it does that.
    pub vlan_tags: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            promiscuous: false,
            all_multicast: false,
            rss: true,
            vlan_tags: false,
        }
    }
}

/// The queues of a configured interface, in the order of their numbers.
#[derive(Debug)]
pub struct Queues {
    /// To receive.
    pub rx: Vec<RxTicket>,
    /// To transmit.
    pub tx: Vec<TxTicket>,
}

/// An interface of DPDK. Dropping it closes it, once its queues are given back.
#[derive(Debug)]
pub struct EthPort {
    shared: Arc<Shared>,
    /// DPDK's control calls on an interface are not to be made by two threads at once.
    not_sync: PhantomData<Cell<()>>,
}

/// What an interface and its queues have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    id: u16,
    name: String,
    state: Mutex<State>,
    core: Arc<Core>,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    /// The device is gone; tickets may still be around.
    closed: bool,
    /// Counts configurations, so that tickets of earlier ones are void.
    generation: u32,
    /// Queues that threads have claimed; only while started.
    claimed: u32,
    sends_segments: bool,
    /// Keeps the memory that the device's descriptors point to. Freed after the device is closed.
    pools: Vec<Mempool>,
}

impl Shared {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn sends_segments(&self) -> bool {
        self.state().sends_segments
    }

    pub(crate) fn claim(&self, queue: u16, generation: u32) -> Result<(), Error> {
        let mut state = self.state();
        if state.generation != generation {
            return Err(Error::StaleTicket { port: self.name.clone(), queue });
        }
        if !state.started {
            return Err(Error::PortStopped(self.name.clone()));
        }
        state.claimed += 1;
        Ok(())
    }

    pub(crate) fn unclaim(&self) {
        self.state().claimed -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Stops and closes the device, once. No queue is claimed.
    fn shut(&self, state: &mut State) {
        if state.closed {
            return;
        }
        let device = crate::status::device_of(self.id).filter(|_| !self.name.contains(':'));
        let _control = self.core.control.lock().unwrap_or_else(PoisonError::into_inner);
        if state.started {
            // SAFETY: the interface is ours, and no queue is claimed.
            unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        }
        // SAFETY: as above; its packets go back to the mempools, which are dropped after this.
        unsafe { dpdk_sys::rte_eth_dev_close(self.id) };
        if let Some(device) = device {
            // SAFETY: a virtual device has this one interface, so nobody else uses it. Those on
            // the PCI bus may have several and stay until EAL ends.
            unsafe { dpdk_sys::rte_dev_remove(device) };
        }
        state.started = false;
        state.closed = true;
        state.pools.clear();
        self.core.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Claims hold this, so there is none.
        self.shut(&mut self.state());
    }
}

impl EthPort {
    pub(crate) fn take(core: Arc<Core>, id: u16, name: String) -> Result<Self, Error> {
        if !core.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Err(Error::PortTaken(name));
        }
        let shared = Arc::new(Shared { id, name, state: Mutex::default(), core });
        Ok(Self { shared, not_sync: PhantomData })
    }

    /// DPDK's number of the interface.
    pub fn id(&self) -> EthPortId {
        EthPortId(self.shared.id)
    }

    /// DPDK's name of the interface.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it is started.
    pub fn is_started(&self) -> bool {
        self.shared.state().started
    }

    /// Whether the device sends packets of several segments without a copy.
    pub fn sends_segments(&self) -> bool {
        self.shared.sends_segments()
    }

    /// Sets the interface up, stopped, with received packets from `pool`. The tickets of an earlier
    /// configuration are void.
    pub fn configure(&mut self, config: &PortConfig, pool: &Mempool) -> Result<Queues, Error> {
        let info = self.info()?;
        let shared = &self.shared;
        let mut state = shared.state();
        if state.started {
            return Err(Error::PortRunning(shared.name.clone()));
        }
        log::forget_complaints();
        self.check_queues(config, &info)?;
        let scatter = self.needs_scatter(config, &info, pool)?;
        // Even if it fails half-way, the old queues are gone.
        state.generation += 1;
        state.sends_segments = info.tx_offloads & dpdk_sys::DPNAT_TX_OFFLOAD_MULTI_SEGS != 0;
        state.pools.push(pool.clone());
        self.configure_device(config, &info, scatter)?;
        self.set_up_queues(config, pool)?;
        if let Some(mtu) = config.mtu {
            self.apply_mtu(mtu)?;
        }
        self.apply_promiscuous(config.promiscuous)?;
        self.apply_all_multicast(config.all_multicast)?;
        // The descriptors of earlier configurations are gone, and with them the need for their pools.
        let newest = state.pools.len() - 1;
        state.pools.drain(..newest);
        let (shared, generation) = (&self.shared, state.generation);
        let rx = |queue| RxTicket::new(Arc::clone(shared), queue, generation);
        let tx = |queue| TxTicket::new(Arc::clone(shared), queue, generation);
        Ok(Queues {
            rx: (0..config.rx_queues).map(rx).collect(),
            tx: (0..config.tx_queues).map(tx).collect(),
        })
    }

    fn check_queues(&self, config: &PortConfig, info: &DeviceInfo) -> Result<(), Error> {
        let limits = [
            ("RX queues", config.rx_queues, info.max_rx_queues),
            ("TX queues", config.tx_queues, info.max_tx_queues),
        ];
        for (what, wanted, max) in limits {
            if wanted > max {
                let (port, wanted, max) = (self.name().to_owned(), wanted.into(), max.into());
                return Err(Error::TooMany { port, what, wanted, max });
            }
        }
        Ok(())
    }

    /// Whether frames of this MTU take more than one mbuf; an error if the device cannot do that, or
    /// not that MTU.
    fn needs_scatter(
        &self,
        config: &PortConfig,
        info: &DeviceInfo,
        pool: &Mempool,
    ) -> Result<bool, Error> {
        let Some(wanted) = config.mtu else { return Ok(false) };
        let refused = |max, reason| {
            let port = self.name().to_owned();
            Err(Error::Mtu { port, wanted, min: info.min_mtu, max, reason })
        };
        if wanted < info.min_mtu || wanted > info.max_mtu {
            return refused(info.max_mtu, "");
        }
        if u32::from(wanted) + FRAME_OVERHEAD <= u32::from(pool.room()) {
            return Ok(false);
        }
        if info.rx_offloads & dpdk_sys::DPNAT_RX_OFFLOAD_SCATTER != 0 {
            return Ok(true);
        }
        let max = u32::from(pool.room()).saturating_sub(FRAME_OVERHEAD) as u16;
        refused(max, ", as the device puts a frame into one mbuf of the mempool")
    }

    fn configure_device(
        &self,
        config: &PortConfig,
        info: &DeviceInfo,
        scatter: bool,
    ) -> Result<(), Error> {
        let mut conf = dpdk_sys::rte_eth_conf::default();
        conf.rxmode.mtu = config.mtu.map_or(0, u32::from);
        let hashed = dpdk_sys::DPNAT_RSS_IP | dpdk_sys::DPNAT_RSS_TCP | dpdk_sys::DPNAT_RSS_UDP;
        let hashed = hashed & info.rss_fields;
        if config.rss && config.rx_queues > 1 && hashed != 0 {
            conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = hashed;
            conf.rxmode.offloads |= dpdk_sys::DPNAT_RX_OFFLOAD_RSS_HASH & info.rx_offloads;
        }
        if scatter {
            conf.rxmode.offloads |= dpdk_sys::DPNAT_RX_OFFLOAD_SCATTER;
        }
        conf.txmode.offloads = dpdk_sys::DPNAT_TX_OFFLOAD_MULTI_SEGS & info.tx_offloads;
        if config.vlan_tags {
            conf.rxmode.offloads |= dpdk_sys::DPNAT_RX_OFFLOAD_VLAN_STRIP & info.rx_offloads;
            conf.txmode.offloads |= dpdk_sys::DPNAT_TX_OFFLOAD_VLAN_INSERT & info.tx_offloads;
        }
        let (rx, tx) = (config.rx_queues, config.tx_queues);
        // SAFETY: the interface is ours and stopped; `conf` is copied.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_configure(self.shared.id, rx, tx, &raw const conf) };
        self.result("cannot be configured", code)
    }

    fn set_up_queues(&self, config: &PortConfig, pool: &Mempool) -> Result<(), Error> {
        let id = self.shared.id;
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: both numbers are read and written.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx, &raw mut tx) };
        self.result("cannot have that many descriptors", code)?;
        // SAFETY: reads a number.
        let node = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) } as u32;
        for queue in 0..config.rx_queues {
            let (conf, pool) = (std::ptr::null(), pool.as_ptr());
            // SAFETY: null stands for the device's own settings; the pool is kept by the state.
            let code = unsafe { dpdk_sys::rte_eth_rx_queue_setup(id, queue, rx, node, conf, pool) };
            self.result("an RX queue cannot be set up", code)?;
        }
        for queue in 0..config.tx_queues {
            let conf = std::ptr::null();
            // SAFETY: null stands for the device's own settings.
            let code = unsafe { dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx, node, conf) };
            self.result("a TX queue cannot be set up", code)?;
        }
        Ok(())
    }

    /// Starts it. The queues can be claimed from now on.
    pub fn start(&mut self) -> Result<(), Error> {
        let mut state = self.shared.state();
        if state.started {
            return Err(Error::PortRunning(self.name().to_owned()));
        }
        log::forget_complaints();
        // SAFETY: the interface is ours and stopped; DPDK refuses one that is not configured.
        self.result("cannot be started", unsafe { dpdk_sys::rte_eth_dev_start(self.shared.id) })?;
        state.started = true;
        Ok(())
    }

    /// Stops it. Refused while a queue is claimed, because its thread may be polling it. Not all
    /// virtual devices can be started again: `net_af_packet` closes its sockets for good.
    pub fn stop(&mut self) -> Result<(), Error> {
        let mut state = self.shared.state();
        if !state.started {
            return Ok(());
        }
        if state.claimed > 0 {
            let (port, queues) = (self.name().to_owned(), state.claimed);
            return Err(Error::QueuesInUse { port, queues });
        }
        // SAFETY: the interface is ours, no queue is claimed, and none can be while we hold the state.
        self.result("cannot be stopped", unsafe { dpdk_sys::rte_eth_dev_stop(self.shared.id) })?;
        state.started = false;
        Ok(())
    }

    /// Stops and closes it and removes a virtual device; tickets that were not claimed are void.
    /// Refused while a queue is claimed: it closes with the last one then.
    pub fn close(mut self) -> Result<(), Error> {
        self.stop()?;
        self.shared.shut(&mut self.shared.state());
        Ok(())
    }

    /// Sets the largest IP packet, in bytes. Some devices have to be stopped for it.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        log::forget_complaints();
        self.apply_mtu(mtu)
    }

    /// Receives what is for other MAC addresses too, or not. A device that always does, or knows no
    /// addresses, is left as it is.
    pub fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        log::forget_complaints();
        self.apply_promiscuous(on)
    }

    fn apply_mtu(&self, mtu: u16) -> Result<(), Error> {
        // SAFETY: the interface is ours.
        let code = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.shared.id, mtu) };
        match -code {
            // A device that cannot change it may have it already.
            libc::ENOTSUP if self.mtu().ok() == Some(mtu) => Ok(()),
            _ => self.result("cannot have that MTU", code),
        }
    }

    fn apply_promiscuous(&self, on: bool) -> Result<(), Error> {
        let id = self.shared.id;
        let code = match on {
            // SAFETY: the interface is ours.
            true => unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) },
            // SAFETY: the interface is ours.
            false => unsafe { dpdk_sys::rte_eth_promiscuous_disable(id) },
        };
        match -code {
            libc::ENOTSUP => Ok(()),
            _ => self.result("cannot change promiscuous mode", code),
        }
    }

    fn apply_all_multicast(&self, on: bool) -> Result<(), Error> {
        let id = self.shared.id;
        let code = match on {
            // SAFETY: the interface is ours.
            true => unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) },
            // SAFETY: the interface is ours.
            false => unsafe { dpdk_sys::rte_eth_allmulticast_disable(id) },
        };
        match -code {
            libc::ENOTSUP => Ok(()),
            _ => self.result("cannot change what it receives of groups", code),
        }
    }

    /// A DPDK return code as an error of this interface.
    pub(crate) fn result(&self, what: &'static str, code: c_int) -> Result<(), Error> {
        check(code).map_err(|source| Error::Port {
            port: self.name().to_owned(),
            what,
            source,
            log: log::take_complaints(),
        })
    }
}
