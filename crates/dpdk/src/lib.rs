//! Safe DPDK: start-up, interfaces, queues, mempools and packets owned by move.
//!
//! DPDK's unsafe ends in this crate. The rules that its types keep:
//! - One [`Eal`] a process. Interfaces and mempools keep it alive; it cleans up only when nothing of
//!   DPDK is in use any more.
//! - An [`Mbuf`] has one owner; dropping it frees it. A mempool with packets still out is never
//!   freed, so that no packet can outlive its memory.
//! - A queue is handed out once, as a ticket that can be sent, and becomes a queue that cannot be on
//!   the thread that polls it. An interface cannot be stopped while a queue of it is in use.
//!
//! ```compile_fail,E0277
//! fn sent<T: Send>() {}
//! sent::<dpdk::RxQueue>();
//! ```
//! ```compile_fail,E0277
//! fn sent<T: Send>() {}
//! sent::<dpdk::TxQueue>();
//! ```
//! ```compile_fail,E0277
//! fn shared<T: Sync>() {}
//! shared::<dpdk::Mbuf>();
//! ```
//! ```compile_fail,E0599
//! fn twice(packet: dpdk::Mbuf) -> (dpdk::Mbuf, dpdk::Mbuf) {
//!     (packet.clone(), packet)
//! }
//! ```
//! ```compile_fail,E0382
//! fn free_twice(packet: dpdk::Mbuf) {
//!     drop(packet);
//!     drop(packet);
//! }
//! ```
//! ```compile_fail,E0382
//! fn claim_twice(ticket: dpdk::RxTicket) {
//!     let first = ticket.claim();
//!     let second = ticket.claim();
//! }
//! ```

mod device;
mod eal;
mod error;
mod ffi;
mod lcore;
mod log;
mod mbuf;
mod mempool;
mod options;
mod port;
mod prefix;
mod queue;
mod status;

pub use eal::Eal;
pub use error::Error;
pub use lcore::{LcoreHandle, RegisteredThread, current_lcore};
pub use log::{LogLevel, set_log_sink};
pub use mbuf::{L4Checksum, Mbuf};
pub use mempool::{HEADROOM, Mempool, MempoolConfig};
pub use options::{EalOptions, HugePages};
pub use port::{EthPort, PortConfig, Queues};
pub use queue::{RxQueue, RxTicket, TxQueue, TxTicket};
pub use status::{DeviceInfo, LinkState, PortStatistics};

/// The DPDK that runs, as in `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: rte_version() takes nothing and may be called at any time.
    let text = unsafe { dpdk_sys::rte_version() };
    // SAFETY: it returns a string that lives as long as the process.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
