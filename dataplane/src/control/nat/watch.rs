//! Says when the ports of a WAN IP run short: at 80 and at 95 percent (RFC 6888 §4 wants operators to know).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use types::Proto;

use crate::control::{Control, Reply};
use crate::worker::nat::{PROTOS, WanUsage};

/// Percents of the ports that are worth an event.
const LEVELS: [u32; 2] = [80, 95];
/// Percent points below a level at which it is over.
const HYSTERESIS: u32 = 5;

/// Which WAN IPs run short of ports.
#[derive(Debug, Default)]
pub(in crate::control) struct WanWatch {
    /// How many of [`LEVELS`] are reached, where any is.
    reached: BTreeMap<(u32, u8), (usize, u32)>,
    crossed: [u64; LEVELS.len()],
}

/// What is to be said of a WAN IP and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It has reached this percentage.
    Reached(u32),
    /// It is below this percentage again.
    Left(u32),
}

impl WanWatch {
    /// How often each of [`LEVELS`] was reached.
    pub fn crossed(&self) -> [u64; LEVELS.len()] {
        self.crossed
    }

    /// Those that are short, for people.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.reached.iter().map(|((address, proto), (_, percent))| {
            let proto = Proto::from_number(*proto).map(|proto| proto.to_string());
            let (address, proto) = (Ipv4Addr::from(*address), proto.unwrap_or_default());
            format!("{percent} % of a worker's {proto} ports of WAN IP {address} are in use")
        })
    }

    /// Notes how many ports are taken or rest.
    fn look(&mut self, address: u32, proto: Proto, usage: WanUsage) -> Option<Change> {
        let key = (address, proto.number());
        let percent = usage.percent();
        let before = self.reached.get(&key).map_or(0, |(level, _)| *level);
        let reached = |n: usize, level: u32| {
            let needed = if n < before { level - HYSTERESIS } else { level };
            percent >= needed
        };
        let now = LEVELS.iter().enumerate().take_while(|(n, level)| reached(*n, **level)).count();
        match now {
            0 => self.reached.remove(&key),
            level => self.reached.insert(key, (level, percent)),
        };
        for crossed in self.crossed.iter_mut().take(now).skip(before) {
            *crossed += 1;
        }
        match now.cmp(&before) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => LEVELS[..now].last().map(|at| Change::Reached(*at)),
            std::cmp::Ordering::Less => LEVELS.get(now).map(|at| Change::Left(*at)),
        }
    }

    /// Forgets those that are gone.
    fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.reached.retain(|(address, _), _| is_there(*address));
    }
}

impl Control {
    /// Looks how many ports of WAN IPs are in use, and says so if they run short.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub(in crate::control) async fn watch_wan_ports(&self) -> Reply<()> {
        let names = Arc::clone(&self.state().gateway_names);
        let usage = self.wan_usage(&names).await?;
        let mut state = self.state();
        for wan in names.wans() {
            let ports = usage.get(&wan.place).copied().unwrap_or_default();
            for (proto, usage) in PROTOS.into_iter().zip(ports) {
                let address = Ipv4Addr::from(wan.address);
                let (taken, resting, capacity) = (usage.taken, usage.resting, usage.capacity);
                match state.wan_watch.look(wan.address, proto, usage) {
                    Some(Change::Reached(percent)) => tracing::warn!(
                        %address, %proto, percent, taken, resting, capacity,
                        "the ports of a WAN IP run short"
                    ),
                    Some(Change::Left(percent)) => tracing::info!(
                        %address, %proto, percent, taken, resting, capacity,
                        "the ports of a WAN IP are below this share again"
                    ),
                    None => {}
                }
            }
        }
        state.wan_watch.keep(|address| names.wan(address).is_some());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_told_once_each_way() {
        let mut watch = WanWatch::default();
        let mut look = |taken, resting| {
            let fullest = taken + resting;
            watch.look(
                1,
                Proto::Udp,
                WanUsage { capacity: 1_000, taken, resting, fullest, workers: 1 },
            )
        };
        assert_eq!(look(799, 0), None);
        assert_eq!(look(700, 100), Some(Change::Reached(80)));
        assert_eq!(look(810, 0), None);
        assert_eq!(look(760, 0), None, "not yet below it for certain");
        assert_eq!(look(949, 0), None);
        assert_eq!(look(950, 0), Some(Change::Reached(95)));
        assert_eq!(look(910, 0), None);
        assert_eq!(look(890, 0), Some(Change::Left(95)));
        assert_eq!(look(749, 0), Some(Change::Left(80)));
        assert_eq!(look(1_000, 0), Some(Change::Reached(95)), "both at once");
        assert_eq!(watch.crossed(), [2, 2]);
        let other = WanUsage::default();
        assert_eq!(watch.look(2, Proto::Tcp, other), None, "no port at all is no share");
        assert_eq!(watch.problems().count(), 1);
        // One of four workers has taken nearly all of its ports, and the others none.
        let mut sum = WanUsage::default();
        for taken in [240, 0, 0, 0] {
            sum += WanUsage { capacity: 250, taken, resting: 0, fullest: taken, workers: 1 };
        }
        assert_eq!(watch.look(2, Proto::Tcp, sum), Some(Change::Reached(95)));
        watch.keep(|address| address == 1);
        watch.keep(|address| address == 2);
        assert_eq!(watch.problems().count(), 0);
    }
}
