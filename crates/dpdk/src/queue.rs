//! Queues: handed out once as tickets, polled by the thread that claims them.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::Error;
use crate::mbuf::{Mbuf, as_raw};
use crate::port::Shared;

/// The right to poll one RX queue; it can be sent to the thread that will.
#[derive(Debug)]
pub struct RxTicket(Ticket);

/// The right to fill one TX queue; it can be sent to the thread that will.
#[derive(Debug)]
pub struct TxTicket(Ticket);

#[derive(Debug)]
struct Ticket {
    port: Arc<Shared>,
    queue: u16,
    generation: u32,
}

/// A claimed queue: while it exists, the interface cannot be stopped. It stays on its thread.
#[derive(Debug)]
struct Claim {
    ticket: Ticket,
    thread: PhantomData<*const ()>,
}

impl Ticket {
    fn claim(self) -> Result<Claim, Error> {
        self.port.claim(self.queue, self.generation)?;
        Ok(Claim { ticket: self, thread: PhantomData })
    }
}

impl Claim {
    /// Gives the queue back; the ticket can be claimed again.
    fn release(self) -> Ticket {
        let Ticket { port, queue, generation } = &self.ticket;
        Ticket { port: Arc::clone(port), queue: *queue, generation: *generation }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ticket.port.unclaim();
    }
}

impl RxTicket {
    pub(crate) fn new(port: Arc<Shared>, queue: u16, generation: u32) -> Self {
        Self(Ticket { port, queue, generation })
    }

    /// The queue's number.
    pub fn queue(&self) -> u16 {
        self.0.queue
    }

    /// Makes it a queue of this thread. The interface has to be started, and the ticket from its
    /// latest configuration; else the ticket is void.
    pub fn claim(self) -> Result<RxQueue, Error> {
        let (port, queue) = (self.0.port.id(), self.0.queue);
        Ok(RxQueue { port, queue, claim: self.0.claim()? })
    }
}

impl TxTicket {
    pub(crate) fn new(port: Arc<Shared>, queue: u16, generation: u32) -> Self {
        Self(Ticket { port, queue, generation })
    }

    /// The queue's number.
    pub fn queue(&self) -> u16 {
        self.0.queue
    }

    /// Makes it a queue of this thread. The interface has to be started, and the ticket from its
    /// latest configuration; else the ticket is void.
    pub fn claim(self) -> Result<TxQueue, Error> {
        let (port, queue) = (self.0.port.id(), self.0.queue);
        let multi_segment = self.0.port.sends_segments();
        Ok(TxQueue { port, queue, multi_segment, claim: self.0.claim()? })
    }
}

/// An RX queue on the thread that polls it.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    claim: Claim,
}

impl RxQueue {
    /// Receives up to `out.len()` packets into the front of `out`, whose entries have to be `None`,
    /// and gives their number.
    #[inline]
    pub fn receive(&mut self, out: &mut [Option<Mbuf>]) -> usize {
        debug_assert!(out.iter().all(Option::is_none), "an entry is in use and would leak");
        let count = u16::try_from(out.len()).unwrap_or(u16::MAX);
        // SAFETY: the claim keeps the interface started and this the only poller of the queue; DPDK
        // writes at most `count` pointers to packets that are the caller's from then on.
        usize::from(unsafe { dpdk_sys::dpnat_rx_burst(self.port, self.queue, as_raw(out), count) })
    }

    /// The queue's number.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Gives the queue back, to be claimed elsewhere.
    pub fn release(self) -> RxTicket {
        RxTicket(self.claim.release())
    }
}

/// A TX queue on the thread that fills it.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    multi_segment: bool,
    claim: Claim,
}

impl TxQueue {
    /// Sends the packets from the front of `packets` up to the first `None`, and gives their number:
    /// so many entries are `None` then. What the device refuses stays with the caller, in its order.
    ///
    /// Where the device cannot send packets of several segments, they are copied into one; those too
    /// long for it are refused and stand behind the others.
    #[inline]
    pub fn transmit(&mut self, packets: &mut [Option<Mbuf>]) -> usize {
        let dense = packets.iter().take(usize::from(u16::MAX)).take_while(|p| p.is_some()).count();
        let (packets, _) = packets.split_at_mut(dense);
        let count = if self.multi_segment { dense } else { join_segments(packets) };
        // SAFETY: the claim keeps the interface started and this the only filler of the queue. The
        // first `count` entries hold packets (there are no more than `u16::MAX`), and DPDK takes over
        // as many as it says.
        let sent = usize::from(unsafe {
            dpdk_sys::dpnat_tx_burst(self.port, self.queue, as_raw(packets), count as u16)
        });
        for packet in packets.iter_mut().take(sent) {
            // The device owns them now.
            std::mem::forget(packet.take());
        }
        sent
    }

    /// The queue's number.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Gives the queue back, to be claimed elsewhere.
    pub fn release(self) -> TxTicket {
        TxTicket(self.claim.release())
    }
}

/// Makes each packet one segment, and moves those for which that fails to the end. Gives the number of
/// the others.
fn join_segments(packets: &mut [Option<Mbuf>]) -> usize {
    let mut good = packets.len();
    let mut next = 0;
    while next < good {
        let fits = |packet: &mut Mbuf| packet.segments() == 1 || packet.linearize();
        if packets[next].as_mut().is_some_and(fits) {
            next += 1;
        } else {
            packets[next..].rotate_left(1);
            good -= 1;
        }
    }
    good
}
