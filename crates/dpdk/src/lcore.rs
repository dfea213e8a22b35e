//! Threads of DPDK: work on worker lcores, and threads of ours that join.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use types::LcoreId;

use crate::eal::Core;
use crate::ffi::last_error;
use crate::{Eal, Error};

type Job = Box<dyn FnOnce() + Send>;

impl Eal {
    /// The worker lcores, in the order of [`crate::EalOptions::worker_cpus`].
    pub fn lcores(&self) -> impl Iterator<Item = LcoreId> + use<> {
        (1..=self.workers).map(LcoreId)
    }

    /// Runs `work` on a worker lcore, which is bound to its CPU. A panic ends the work, not the
    /// process, and is what [`LcoreHandle::wait`] gives.
    pub fn launch<T, F>(&self, lcore: LcoreId, work: F) -> Result<LcoreHandle<T>, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if lcore.0 == 0 || lcore.0 > self.workers {
            return Err(Error::NoSuchLcore(lcore.0));
        }
        let (sender, result) = sync_channel(1);
        let core = Arc::clone(&self.core);
        let job: Job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            drop(core);
            // Nobody waits: then nobody wants to know.
            let _ = sender.send(outcome);
        });
        let job = Box::into_raw(Box::new(job));
        let _control = self.core.control.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: EAL runs and the lcore is one of its workers. On success `run` takes over the job.
        let code =
            unsafe { dpdk_sys::rte_eal_remote_launch(Some(run), job.cast(), u32::from(lcore.0)) };
        if code == 0 {
            return Ok(LcoreHandle { lcore, result });
        }
        // SAFETY: the job was not handed over, and it came from `into_raw` above.
        drop(unsafe { Box::from_raw(job) });
        match -code {
            libc::EBUSY => Err(Error::LcoreBusy(lcore.0)),
            code => Err(Error::Lcore {
                lcore: lcore.0,
                source: std::io::Error::from_raw_os_error(code),
            }),
        }
    }

    /// Makes the calling thread one of DPDK's, with an lcore id and so with a cache of each mempool.
    pub fn register_thread(&self) -> Result<RegisteredThread, Error> {
        register(Arc::clone(&self.core))
    }

    /// Runs `work` on a new thread of that name, which is one of DPDK's; an error is what the thread
    /// ends with if it cannot become one.
    pub fn spawn<F>(&self, name: &str, work: F) -> std::io::Result<JoinHandle<Result<(), Error>>>
    where
        F: FnOnce() + Send + 'static,
    {
        let core = Arc::clone(&self.core);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _registered = register(core)?;
            work();
            Ok(())
        })
    }
}

fn register(core: Arc<Core>) -> Result<RegisteredThread, Error> {
    // SAFETY: EAL runs, which the core keeps.
    match unsafe { dpdk_sys::rte_thread_register() } {
        0 => Ok(RegisteredThread { _core: core, thread: PhantomData }),
        _ => Err(Error::Register(last_error())),
    }
}

/// Work that runs on an lcore. Dropping it lets the work go on.
#[derive(Debug)]
pub struct LcoreHandle<T> {
    lcore: LcoreId,
    result: Receiver<Result<T, Box<dyn Any + Send>>>,
}

impl<T> LcoreHandle<T> {
    /// The lcore.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }

    /// Waits, asleep, until the work has ended; the lcore is free then. An error is the work's panic.
    pub fn wait(self) -> Result<T, Box<dyn Any + Send>> {
        let result = self.result.recv();
        // SAFETY: the work was launched, so EAL runs at least until it has ended; what is left to
        // wait for is the lcore's return from the call.
        unsafe { dpdk_sys::rte_eal_wait_lcore(u32::from(self.lcore.0)) };
        result.unwrap_or_else(|e| Err(Box::new(e)))
    }
}

/// Keeps the thread registered with DPDK; the registration ends when it is dropped.
#[derive(Debug)]
pub struct RegisteredThread {
    _core: Arc<Core>,
    thread: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// The lcore id that the thread was given.
    pub fn lcore(&self) -> Option<LcoreId> {
        current_lcore()
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this thread is registered (the type is not `Send`) and EAL is kept by the core.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// The lcore id of the calling thread, if it is one of DPDK's.
pub fn current_lcore() -> Option<LcoreId> {
    // SAFETY: reads a thread-local integer.
    let id = unsafe { dpdk_sys::dpnat_lcore_id() };
    (id < dpdk_sys::DPNAT_MAX_LCORE).then_some(LcoreId(id as u16))
}

unsafe extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: `launch` made this pointer with `into_raw` and gave it away.
    let job = unsafe { Box::from_raw(job.cast::<Job>()) };
    // It catches the panics of the work itself.
    job();
    0
}
