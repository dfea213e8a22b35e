//! Interfaces in plain memory, for a worker under test.

use std::collections::VecDeque;

use types::Io;

use crate::Buf;

/// Interfaces whose queues a test fills and empties by hand.
#[derive(Debug)]
pub struct FakePorts {
    received: Vec<VecDeque<Buf>>,
    sent: Vec<Vec<Buf>>,
    /// Packets that each interface takes until it is emptied.
    pub room: usize,
    /// Packet buffers that are left.
    pub buffers: usize,
}

/// Bytes that a buffer has behind the frame, as a DPDK mbuf of the usual size.
const TAILROOM: usize = 2048;

impl FakePorts {
    /// So many interfaces with endless room and memory.
    pub fn new(interfaces: usize) -> Self {
        Self {
            received: (0..interfaces).map(|_| VecDeque::new()).collect(),
            sent: (0..interfaces).map(|_| Vec::new()).collect(),
            room: usize::MAX,
            buffers: usize::MAX,
        }
    }

    /// Lets a packet arrive on an interface.
    pub fn arrive(&mut self, interface: usize, packet: Buf) {
        self.received[interface].push_back(packet);
    }

    /// Takes what an interface has sent.
    pub fn take_sent(&mut self, interface: usize) -> Vec<Buf> {
        self.sent[interface].drain(..).collect()
    }

    /// Makes room for so many packets on each interface, so that none is allocated in between.
    pub fn reserve(&mut self, packets: usize) {
        self.received.iter_mut().for_each(|queue| queue.reserve(packets));
        self.sent.iter_mut().for_each(|sent| sent.reserve(packets));
    }

    /// Packets that have arrived on all interfaces and were not received yet.
    pub fn waiting(&self) -> usize {
        self.received.iter().map(VecDeque::len).sum()
    }
}

impl Io for FakePorts {
    type Packet = Buf;

    fn receive(&mut self, interface: usize, into: &mut [Option<Buf>]) -> usize {
        let Some(waiting) = self.received.get_mut(interface) else { return 0 };
        let count = waiting.len().min(into.len());
        for (place, packet) in into.iter_mut().zip(waiting.drain(..count)) {
            assert!(place.is_none(), "a place is free before a packet is put there");
            *place = Some(packet);
        }
        count
    }

    fn transmit(&mut self, interface: usize, packets: &mut [Option<Buf>]) -> usize {
        let Some(sent) = self.sent.get_mut(interface) else { return 0 };
        let taken = packets.len().min(self.room.saturating_sub(sent.len()));
        for place in packets.iter_mut().take(taken) {
            sent.push(place.take().expect("a dense prefix"));
        }
        taken
    }

    fn allocate(&mut self) -> Option<Buf> {
        self.buffers = self.buffers.checked_sub(1)?;
        Some(Buf::with_room(&[], 128, TAILROOM))
    }
}
