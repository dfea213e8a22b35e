//! A worker's queues on DPDK.

use dpdk::{Error, Mbuf, Mempool, RxQueue, RxTicket, TxQueue, TxTicket};
use types::Io;

/// The queues that one worker has claimed, by interface.
#[derive(Debug)]
pub(super) struct DpdkIo {
    rx: Vec<Option<RxQueue>>,
    tx: Vec<TxQueue>,
    pool: Mempool,
}

impl DpdkIo {
    /// Claims the queues for the calling thread. A worker has no receive queue on an interface that
    /// has fewer than there are workers.
    pub(super) fn claim(
        tickets: Vec<(Option<RxTicket>, TxTicket)>,
        pool: Mempool,
    ) -> Result<Self, Error> {
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for (rx_ticket, tx_ticket) in tickets {
            rx.push(rx_ticket.map(RxTicket::claim).transpose()?);
            tx.push(tx_ticket.claim()?);
        }
        Ok(Self { rx, tx, pool })
    }
}

impl Io for DpdkIo {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, interface: usize, into: &mut [Option<Mbuf>]) -> usize {
        match self.rx.get_mut(interface) {
            Some(Some(queue)) => queue.receive(into),
            _ => 0,
        }
    }

    #[inline]
    fn transmit(&mut self, interface: usize, packets: &mut [Option<Mbuf>]) -> usize {
        self.tx.get_mut(interface).map_or(0, |queue| queue.transmit(packets))
    }

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}
