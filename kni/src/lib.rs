//! The kernel's interface to one of ours: what we send to it the kernel receives, and what the
//! kernel transmits on it we receive.
//!
//! ```no_run
//! use kni::{KernelInterface, Tap, TapConfig};
//!
//! let mut tap = Tap::create(&TapConfig {
//!     name: "wan0.kni".to_owned(),
//!     mac: "02:00:00:00:00:01".parse()?,
//!     mtu: 1500,
//!     netns: None,
//!     persist: false,
//! })?;
//! tap.set_up(true)?;
//! tap.set_carrier(true)?;
//! let mut frame = [0; 1522];
//! while let Some(len) = tap.receive(&mut frame)? {
//!     println!("the kernel sends {len} bytes");
//! }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod error;
mod ingress;
pub mod netns;
mod sys;
mod tap;

use std::io;

use types::MacAddr;

pub use error::Error;
pub use ingress::IngressDrop;
pub use tap::{MTU_MAX, MTU_MIN, NAME_MAX, Tap, TapConfig};

/// What became of a frame for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// The kernel has it.
    Taken,
    /// Dropped: the interface is administratively down.
    Down,
    /// Dropped: the kernel has no room for it now.
    Full,
}

/// An interface of the kernel of which we are the other end.
///
/// Frames are Ethernet frames without FCS, VLAN tags in place, checksums complete in both
/// directions. Nothing here waits.
pub trait KernelInterface {
    /// The name that it was created with.
    fn name(&self) -> &str;

    /// The kernel's number of it, as in netlink messages; unique in its network namespace.
    ///
    /// # Errors
    /// [`Error::Removed`] if somebody deleted it.
    fn index(&self) -> Result<u32, Error>;

    /// Takes the next frame that the kernel transmitted and gives its length, or `None` if there
    /// is none waiting. The MTU and 22 bytes (Ethernet and two VLAN tags) hold any frame.
    ///
    /// # Errors
    /// `InvalidData`: the frame did not fit `frame` and is lost; the next call goes on.
    /// `NotConnected`: somebody deleted the interface; no call will succeed again.
    fn receive(&mut self, frame: &mut [u8]) -> io::Result<Option<usize>>;

    /// Gives the kernel a frame to receive. The carrier does not matter here.
    ///
    /// # Errors
    /// `InvalidInput`: shorter than an Ethernet header.
    /// `NotConnected`: somebody deleted the interface; no call will succeed again.
    fn send(&mut self, frame: &[u8]) -> io::Result<Sent>;

    /// Tells the kernel whether there is a link. Without, it transmits nothing. A new interface
    /// has none.
    ///
    /// # Errors
    /// [`Error::Removed`] or [`Error::Kernel`].
    fn set_carrier(&mut self, carrier: bool) -> Result<(), Error>;

    /// Brings it administratively up or down. A new interface is down.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Denied`] or [`Error::Kernel`].
    fn set_up(&mut self, up: bool) -> Result<(), Error>;

    /// Sets the MTU, in bytes without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::BadMtu`], [`Error::Removed`], [`Error::Denied`] or [`Error::Kernel`].
    fn set_mtu(&mut self, mtu: u16) -> Result<(), Error>;

    /// Sets the Ethernet address, also while it is up.
    ///
    /// # Errors
    /// [`Error::BadMac`], [`Error::Removed`], [`Error::Denied`] or [`Error::Kernel`].
    fn set_mac(&mut self, mac: MacAddr) -> Result<(), Error>;
}
