//! Mempools of packet buffers.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::eal::Core;
use crate::ffi::{c_string, last_error};
use crate::log::{self, LogLevel};
use crate::mbuf::{Mbuf, as_raw};
use crate::{Eal, Error};

/// Bytes in front of a received packet that it can grow into.
pub const HEADROOM: usize = dpdk_sys::DPNAT_MBUF_HEADROOM as usize;

// What the path inserts in front of a packet fits (VLAN tag, IPv6 growth, TOA, PROXY header).
const _: () = assert!(HEADROOM >= 128, "DPDK was built with less headroom than dpnat needs");

/// How a mempool is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// A name of up to 25 letters, unique in the process.
    pub name: String,
    /// Number of mbufs.
    pub mbufs: u32,
    /// Mbufs that an lcore may keep for itself, at most 512.
    pub cache: u32,
    /// Bytes of packet that an mbuf holds, without the headroom.
    pub room: u16,
    /// Where the memory is to be; anywhere if not given.
    pub numa_node: Option<u16>,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self { name: "mbufs".to_owned(), mbufs: 16384, cache: 256, room: 2048, numa_node: None }
    }
}

impl MempoolConfig {
    /// About what the mempool takes of DPDK's memory, in bytes.
    pub fn bytes(&self) -> u64 {
        const CACHE_LINE: u64 = 64;
        let head = u64::from(dpdk_sys::DPNAT_MEMPOOL_HEADER).next_multiple_of(CACHE_LINE);
        let room = u64::from(self.room) + HEADROOM as u64;
        let mbuf = (u64::from(dpdk_sys::DPNAT_MBUF_SIZE) + room).next_multiple_of(CACHE_LINE);
        // DPDK may add lines to spread mbufs over memory channels; the ring holds a pointer of each.
        let spread = 2 * CACHE_LINE;
        let ring = (u64::from(self.mbufs) + 1).next_power_of_two() * 8;
        u64::from(self.mbufs) * (head + mbuf + spread) + ring
    }
}

/// A pool of packet buffers, shared by all who hold a clone of it. It is freed with the last of them,
/// but never while packets of it are out.
#[derive(Clone, Debug)]
pub struct Mempool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: NonNull<dpdk_sys::rte_mempool>,
    config: MempoolConfig,
    core: Arc<Core>,
}

// SAFETY: DPDK's mempools (made without single-producer or single-consumer flags) may be used by all
// threads at once.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a mempool in DPDK's memory.
    pub fn new(eal: &Eal, config: &MempoolConfig) -> Result<Self, Error> {
        let failed = |reason: String| Error::Mempool {
            name: config.name.clone(),
            mbufs: config.mbufs,
            mib: config.bytes().div_ceil(1 << 20),
            reason,
            log: log::take_complaints(),
        };
        log::forget_complaints();
        if config.mbufs == 0 || config.cache > dpdk_sys::DPNAT_MEMPOOL_CACHE_MAX {
            let max = dpdk_sys::DPNAT_MEMPOOL_CACHE_MAX;
            return Err(failed(format!("it needs an mbuf, and a cache of at most {max}")));
        }
        let Some(room) = config.room.checked_add(HEADROOM as u16) else {
            return Err(failed(format!("{} bytes and the headroom are too large", config.room)));
        };
        let name = c_string(&config.name);
        let node = config.numa_node.map_or(-1, i32::from);
        let (mbufs, cache, dense) = (config.mbufs, config.cache, i32::from(!eal.uses_huge_pages()));
        // SAFETY: EAL runs, and `name` is terminated and copied.
        let pool =
            unsafe { dpdk_sys::dpnat_pool_create(name.as_ptr(), mbufs, cache, room, node, dense) };
        let Some(pool) = NonNull::new(pool) else {
            let error = last_error();
            return Err(failed(match error.raw_os_error() {
                Some(libc::ENOMEM) => "DPDK's memory is too small; give it more (`memory`)".into(),
                Some(libc::EEXIST) => "there is one of that name".into(),
                _ => error.to_string(),
            }));
        };
        let core = Arc::clone(&eal.core);
        Ok(Self { inner: Arc::new(Inner { pool, config: config.clone(), core }) })
    }

    /// Number of mbufs in all.
    pub fn size(&self) -> u32 {
        self.inner.config.mbufs
    }

    /// Bytes of packet that an mbuf holds, without the headroom.
    pub fn room(&self) -> u16 {
        self.inner.config.room
    }

    /// Mbufs that are free, those in the lcores' caches included. It walks the caches: not for the
    /// packet path.
    pub fn available(&self) -> u32 {
        self.inner.available()
    }

    /// Mbufs that are out: held as packets, or by interfaces for packets to come.
    pub fn in_use(&self) -> u32 {
        self.size().saturating_sub(self.available())
    }

    /// An empty packet; none if the pool is exhausted.
    #[inline]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as `self`.
        let packet = unsafe { dpdk_sys::dpnat_alloc(self.as_ptr()) };
        // SAFETY: a packet that DPDK allocates is owned by the caller alone.
        NonNull::new(packet).map(|packet| unsafe { Mbuf::from_raw(packet) })
    }

    /// Fills `out`, whose entries have to be `None`, with empty packets. False, and nothing filled, if
    /// there are not as many.
    #[inline]
    pub fn allocate_bulk(&self, out: &mut [Option<Mbuf>]) -> bool {
        debug_assert!(out.iter().all(Option::is_none), "an entry is in use and would leak");
        let Ok(count) = u32::try_from(out.len()) else { return false };
        // SAFETY: the pool lives; DPDK writes `count` pointers to packets that the caller owns, or
        // none at all, and `as_raw` says why a slot can take a pointer.
        unsafe { dpdk_sys::dpnat_alloc_bulk(self.as_ptr(), as_raw(out), count) == 0 }
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.inner.pool.as_ptr()
    }
}

impl Inner {
    fn available(&self) -> u32 {
        // SAFETY: the pool is freed by `drop` only.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let out = self.config.mbufs.saturating_sub(self.available());
        if out != 0 {
            // A packet somewhere still points into it, so the memory has to stay.
            self.core.leaked.store(true, Ordering::Release);
            let name = &self.config.name;
            let line = format!("mempool `{name}` is dropped with {out} mbufs out; it is not freed");
            log::say(LogLevel::Warning, &line);
            return;
        }
        // SAFETY: all mbufs are back and nobody else holds the pool.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
    }
}
