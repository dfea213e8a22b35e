//! Control's side of the rings to the workers: commands and scans out, what has been done back.
//!
//! A worker answers in the order in which it was asked, so the one who waits longest gets the next
//! answer. Nothing here waits: what finds no room is refused, and who wants to wait tries again
//! after the next [`Workers::pump`].

use std::collections::VecDeque;

use counters::Reading;
use tokio::sync::oneshot;
use types::WorkerId;

use crate::worker::link::{Command, ControlEnd, Event, Scan};
use crate::worker::nat_log::NatRecord;

/// Commands under way to one worker, at most; the ring back has room for as many.
const IN_FLIGHT_MAX: usize = 1024;
/// Scans under way to one worker, at most.
const SCANS_MAX: usize = 16;
/// Events taken from one worker a round, at most.
const EVENTS_A_ROUND: usize = 1024;

/// Why a worker was not told: it has not done what it was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {} is busy: it has not done what it was told before", .0.0)]
pub struct Busy(pub WorkerId);

/// The ends of all links.
#[derive(Debug)]
pub struct Workers {
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    end: ControlEnd,
    /// Who waits for what is under way, in the order of sending; `None`: nobody.
    commands: VecDeque<Option<oneshot::Sender<Command>>>,
    scans: VecDeque<oneshot::Sender<Box<Scan>>>,
}

impl Workers {
    /// One link a worker, by the workers' numbers.
    pub fn new(ends: Vec<ControlEnd>) -> Self {
        let link = |end| Link { end, commands: VecDeque::new(), scans: VecDeque::new() };
        Self { links: ends.into_iter().map(link).collect() }
    }

    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Their numbers.
    pub fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.links.len() as u16).map(WorkerId)
    }

    /// What a worker has counted, as of its last publication.
    pub fn reading(&self, worker: WorkerId) -> Option<Reading> {
        Some(self.links.get(usize::from(worker.0))?.end.published.read())
    }

    /// True if a worker takes another command now.
    pub fn has_room(&self, worker: WorkerId) -> bool {
        self.links.get(usize::from(worker.0)).is_some_and(Link::has_room)
    }

    /// True while something is under way.
    pub fn is_waiting(&self) -> bool {
        self.links.iter().any(|link| !link.commands.is_empty() || !link.scans.is_empty())
    }

    /// Tells a worker, and does not care when it is done.
    ///
    /// # Errors
    /// If there is no room; the command comes back.
    pub fn tell(&mut self, worker: WorkerId, command: Command) -> Result<(), (Busy, Command)> {
        self.send(worker, command, None)
    }

    /// Tells a worker; what comes back is the command as done, or an error if the worker has ended.
    ///
    /// # Errors
    /// If there is no room; the command comes back.
    pub fn ask(
        &mut self,
        worker: WorkerId,
        command: Command,
    ) -> Result<oneshot::Receiver<Command>, (Busy, Command)> {
        let (done, waiting) = oneshot::channel();
        self.send(worker, command, Some(done))?;
        Ok(waiting)
    }

    fn send(
        &mut self,
        worker: WorkerId,
        command: Command,
        waiter: Option<oneshot::Sender<Command>>,
    ) -> Result<(), (Busy, Command)> {
        let Some(link) = self.links.get_mut(usize::from(worker.0)).filter(|link| link.has_room())
        else {
            return Err((Busy(worker), command));
        };
        match link.end.commands.push(command) {
            Ok(()) => {
                link.commands.push_back(waiter);
                Ok(())
            }
            Err(rtrb::PushError::Full(command)) => Err((Busy(worker), command)),
        }
    }

    /// Starts a scan.
    ///
    /// # Errors
    /// If there are too many under way.
    pub fn scan(
        &mut self,
        worker: WorkerId,
        scan: Box<Scan>,
    ) -> Result<oneshot::Receiver<Box<Scan>>, Busy> {
        let link = self.links.get_mut(usize::from(worker.0)).ok_or(Busy(worker))?;
        if link.scans.len() >= SCANS_MAX {
            return Err(Busy(worker));
        }
        let (done, waiting) = oneshot::channel();
        link.end.scans.push(scan).map_err(|_| Busy(worker))?;
        link.scans.push_back(done);
        Ok(waiting)
    }

    /// Takes what the workers have done and seen: wakes who waits for it, and hands over the events.
    /// True if there was anything.
    pub fn pump(&mut self, mut event: impl FnMut(Event)) -> bool {
        let mut any = false;
        for link in &mut self.links {
            while let Ok(command) = link.end.done.pop() {
                any = true;
                if let Some(Some(waiter)) = link.commands.pop_front() {
                    // Who asked may have gone meanwhile.
                    let _ = waiter.send(command);
                }
            }
            while let Ok(scan) = link.end.scanned.pop() {
                any = true;
                if let Some(waiter) = link.scans.pop_front() {
                    let _ = waiter.send(scan);
                }
            }
            for _ in 0..EVENTS_A_ROUND {
                let Ok(seen) = link.end.events.pop() else { break };
                any = true;
                event(seen);
            }
        }
        any
    }

    /// Takes records for the log of NAT.
    pub fn take_nat_log(&mut self, records: &mut Vec<NatRecord>) {
        for link in &mut self.links {
            let taken = std::iter::from_fn(|| link.end.nat_log.pop().ok());
            records.extend(taken.take(EVENTS_A_ROUND));
        }
    }
}

impl Link {
    fn has_room(&self) -> bool {
        self.commands.len() < IN_FLIGHT_MAX && self.end.commands.slots() > 0
    }
}

#[cfg(test)]
mod tests {
    use types::EthPortId;

    use super::*;
    use crate::control::fake::FakeWorker;
    use crate::worker::link::{Outgoing, Totals};

    fn transmit() -> Command {
        Command::Transmit(Box::new(Outgoing { interface: EthPortId(0), frame: vec![0; 60] }))
    }

    fn totals() -> Command {
        Command::Totals(Box::default())
    }

    #[test]
    fn answers_go_to_those_who_wait_in_order() {
        let (end, mut worker) = FakeWorker::new();
        let mut workers = Workers::new(vec![end]);
        let id = WorkerId(0);
        workers.tell(id, transmit()).unwrap();
        let mut first = workers.ask(id, totals()).unwrap();
        let mut second = workers.ask(id, transmit()).unwrap();
        assert!(!workers.pump(|_| ()));
        worker.turn();
        assert!(workers.pump(|_| ()));
        assert!(matches!(first.try_recv(), Ok(Command::Totals(_))));
        assert!(matches!(second.try_recv(), Ok(Command::Transmit(_))));
        assert!(!workers.is_waiting());
    }

    #[test]
    fn a_worker_that_does_nothing_is_told_so_much_and_no_more() {
        let (end, mut worker) = FakeWorker::new();
        let mut workers = Workers::new(vec![end]);
        let id = WorkerId(0);
        let mut told = 0;
        while workers.tell(id, totals()).is_ok() {
            told += 1;
        }
        assert_eq!(told, IN_FLIGHT_MAX);
        worker.turn();
        // Done, but control has not looked: nothing may be lost on the way back.
        assert!(workers.tell(id, totals()).is_err());
        workers.pump(|_| ());
        assert!(workers.has_room(id));
        assert!(workers.ask(WorkerId(1), totals()).is_err());
        let empty = Totals::default();
        assert!(empty.services.is_empty());
    }
}
