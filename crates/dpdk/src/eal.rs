//! The one EAL of the process: its start, its interfaces and its end.

use std::collections::HashSet;
use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ffi::{c_string, last_error};
use crate::log::{self, LogLevel};
use crate::port::EthPort;
use crate::prefix::PrefixLock;
use crate::{EalOptions, Error, device};

static STARTED: AtomicBool = AtomicBool::new(false);

/// What interfaces, mempools and threads keep alive.
#[derive(Debug, Default)]
pub(crate) struct Core {
    /// Held around DPDK's calls that change the list of devices or the lcores' states.
    pub(crate) control: Mutex<()>,
    /// DPDK's ids of the interfaces that somebody holds.
    pub(crate) taken: Mutex<HashSet<u16>>,
    /// Something of DPDK's memory is still in use and has no owner that we know.
    pub(crate) leaked: AtomicBool,
}

/// DPDK, running. There is one a process, and dropping it cleans up: what it made in the file system,
/// its devices and its memory. Interfaces, mempools, queues and lcores have to be given back before;
/// if they are not, the memory stays until the process ends, and the log says so.
#[derive(Debug)]
pub struct Eal {
    pub(crate) core: Arc<Core>,
    pub(crate) workers: u16,
    huge: bool,
    prefix: PrefixLock,
}

impl Eal {
    /// Starts DPDK and makes the devices. The calling thread becomes the main lcore and is bound to
    /// the main CPUs, and with it all threads that it starts.
    ///
    /// What can be checked is checked before anything is touched. After an error that came from
    /// DPDK itself the process cannot try again ([`Error::Started`]).
    pub fn start(options: &EalOptions) -> Result<Self, Error> {
        if STARTED.load(Ordering::Acquire) {
            return Err(Error::Started);
        }
        options.devices.iter().try_for_each(|device| device::check(device))?;
        let huge = options.decide_huge_pages()?;
        let args = options.arguments(huge)?;
        let prefix = PrefixLock::take(&options.prefix())?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::Started);
        }
        log::open();
        log::forget_complaints();
        initialize(&args)?;
        // From here on a failure drops it, which cleans up.
        let workers = options.worker_cpus.len() as u16;
        let eal = Self { core: Arc::default(), workers, huge, prefix };
        for device in &options.devices {
            eal.make(device)?;
        }
        Ok(eal)
    }

    /// Whether DPDK's memory is on huge pages.
    pub fn uses_huge_pages(&self) -> bool {
        self.huge
    }

    /// The file prefix's runtime directory, gone after the end.
    pub fn runtime_directory(&self) -> &std::path::Path {
        self.prefix.directory()
    }

    /// Takes the interface of a device by its name in DPDK (`net_af_packet0`, `0000:81:00.0`).
    pub fn port(&self, name: &str) -> Result<EthPort, Error> {
        let name = device::port_name(name)?;
        let id = port_id(&name).ok_or_else(|| Error::NoSuchPort(name.clone()))?;
        EthPort::take(Arc::clone(&self.core), id, name)
    }

    /// Makes a device while DPDK runs and takes its interface. PCI devices have to be among
    /// [`EalOptions::devices`].
    pub fn probe(&self, device: &str) -> Result<EthPort, Error> {
        if device::is_pci(device) {
            return Err(Error::PciAfterStart(device.to_owned()));
        }
        device::check(device)?;
        self.make(device)?;
        self.port(&device::port_name(device)?)
    }

    fn make(&self, device: &str) -> Result<(), Error> {
        let name = device::port_name(device)?;
        let failed = |reason: String| Error::Device {
            device: device.to_owned(),
            reason,
            log: log::take_complaints(),
        };
        // Those on the PCI bus came with the start.
        if device::is_pci(device) {
            let found = port_id(&name).map(|_| ());
            return found
                .ok_or_else(|| failed(format!("DPDK made no interface{}", device::hint(device))));
        }
        let _control = self.core.control.lock().unwrap_or_else(PoisonError::into_inner);
        if port_id(&name).is_some() {
            return Err(Error::DeviceExists(name));
        }
        log::forget_complaints();
        let arguments = c_string(device);
        // SAFETY: EAL runs as long as `self`; the string is copied by DPDK.
        let code = unsafe { dpdk_sys::rte_dev_probe(arguments.as_ptr()) };
        if code != 0 {
            return Err(failed(match code {
                // Of this one the log says more than an error number does.
                -1 => "DPDK refused it".to_owned(),
                code => std::io::Error::from_raw_os_error(-code).to_string(),
            }));
        }
        port_id(&name).map(|_| ()).ok_or_else(|| failed("DPDK made no interface of it".to_owned()))
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        let alone = Arc::strong_count(&self.core) == 1;
        if !alone || self.core.leaked.load(Ordering::Acquire) {
            let what = "DPDK's memory is still in use; it stays until the process ends";
            log::say(LogLevel::Warning, what);
            return;
        }
        // SAFETY: no interface, mempool, registered thread or lcore job holds the core, no mbuf is
        // out (a mempool that misses one sets `leaked`), and no new ones can come without `self`.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// Calls `rte_eal_init`.
fn initialize(args: &[String]) -> Result<(), Error> {
    // DPDK keeps pointers into its arguments (`getopt` permutes them), so they live for good.
    let args: &'static [CString] = args.iter().map(|arg| c_string(arg)).collect::<Vec<_>>().leak();
    let mut argv: Vec<*mut c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let argv = argv.leak();
    // SAFETY: `argv` is a terminated vector of terminated strings, none of which is ever freed; DPDK
    // writes to the vector only. The flag in `start` makes this the only call of the process.
    let code = unsafe { dpdk_sys::rte_eal_init(args.len() as c_int, argv.as_mut_ptr()) };
    match code {
        0.. => Ok(()),
        _ => Err(Error::Init { source: last_error(), log: log::take_complaints() }),
    }
}

/// DPDK's id of the interface with this name.
fn port_id(name: &str) -> Option<u16> {
    let name = c_string(name);
    let mut id = 0;
    // SAFETY: the name is terminated and `id` is written on success only.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (code == 0).then_some(id)
}
