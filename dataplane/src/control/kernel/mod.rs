//! What the kernel has on its interfaces to ours (KNIs), followed as it comes and goes.
//!
//! Netlink tells of addresses at once. Of groups older kernels tell nothing, so `dev_mcast` is read a
//! few times a second, and addresses are asked for then as well, in case a message was lost.

mod implied;
mod saved;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::{Handle, MulticastGroup};
use tokio::time::{MissedTickBehavior, interval};
use types::{EthPortId, MacAddr};

use super::engine::Kni;
use super::{Control, State};
use crate::snapshot::KernelSide;
use implied::Given;
use saved::Saved;

/// Groups are read this often, and addresses are asked for.
const LOOK: Duration = Duration::from_millis(250);

/// What netlink says by itself.
type Messages =
    Box<dyn futures_util::Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>;

/// The KNIs of one network namespace, and what tells of them.
struct Follower {
    /// By the kernel's number.
    knis: BTreeMap<u32, (EthPortId, String)>,
    netns: Option<String>,
    handle: Handle,
    messages: Messages,
    groups: File,
    saved: Saved,
    given: Given,
}

/// What is found at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    addresses: Vec<Held>,
    groups: Vec<(EthPortId, MacAddr)>,
}

/// An address that the kernel holds on a KNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    interface: EthPortId,
    net: IpNet,
    /// It was added to stay, and not beside another one of its subnet, as floating ones are.
    lasting: bool,
}

impl Control {
    /// Follows the kernel from now on, having given back to new KNIs the addresses that the ones before
    /// had.
    ///
    /// # Errors
    /// If a network namespace cannot be watched.
    pub fn follow_kernel(&self, state_dir: &Path) -> io::Result<()> {
        let mut by_netns: BTreeMap<Option<String>, BTreeMap<u32, (EthPortId, String)>> =
            BTreeMap::new();
        for info in self.state().engine.interfaces() {
            let Some(Kni { name, netns, index }) = info.kni.clone() else { continue };
            by_netns.entry(netns).or_default().insert(index, (info.id, name));
        }
        for (netns, knis) in by_netns {
            let follower = Follower::new(netns, knis, state_dir.to_owned())?;
            tokio::spawn(self.clone().follow(follower));
        }
        Ok(())
    }

    async fn follow(self, mut follower: Follower) {
        follower.restore().await;
        let mut timer = interval(LOOK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                message = follower.messages.next() => {
                    if message.is_none() {
                        tracing::error!("the kernel tells nothing any more of its interfaces");
                        timer.tick().await;
                    }
                }
            }
            self.give_for_checks(&mut follower).await;
            match follower.look().await {
                Ok(found) => self.found(&mut follower, found).await,
                Err(error) => tracing::warn!(%error, "what the kernel holds is not known now"),
            }
        }
    }

    /// Has the workers run with what was found, and keeps what is to outlast a restart.
    async fn found(&self, follower: &mut Follower, found: Found) {
        let changed = {
            let mut state = self.state();
            let interfaces: Vec<_> = follower.knis.values().map(|(id, _)| *id).collect();
            let kernel = state.kernel.with(
                &interfaces,
                found.addresses.iter().map(|held| (held.interface, held.net.addr())),
                found.groups.iter().copied(),
            );
            let changed = *state.kernel != kernel;
            if changed {
                state.tell_of_kernel(&kernel);
                state.kernel = Arc::new(kernel);
            }
            follower.keep(&state, &found);
            changed || !Arc::ptr_eq(&state.kernel, &state.snapshot.kernel)
        };
        if changed {
            self.reroute_checks();
        }
        if changed && let Err(error) = self.refresh(false).await {
            tracing::warn!(%error, "workers do not know yet what the kernel holds");
        }
    }
}

impl State {
    fn tell_of_kernel(&self, after: &KernelSide) {
        let held = |side: &KernelSide| side.addresses().collect::<Vec<_>>();
        let (before, after) = (held(&self.kernel), held(after));
        for (interface, address) in after.iter().filter(|held| !before.contains(held)) {
            let dev = self.name(*interface);
            tracing::info!(dev, %address, "the kernel holds an address");
        }
        for (interface, address) in before.iter().filter(|held| !after.contains(held)) {
            let dev = self.name(*interface);
            tracing::info!(dev, %address, "the kernel holds an address no more");
        }
    }
}

impl Follower {
    fn new(
        netns: Option<String>,
        knis: BTreeMap<u32, (EthPortId, String)>,
        state_dir: PathBuf,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let open = || {
            // The socket is to wake the runtime, whichever thread opens it.
            let _here = runtime.enter();
            let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
            let connection = rtnetlink::new_multicast_connection(&groups)?;
            Ok::<_, io::Error>((connection, File::open("/proc/thread-self/net/dev_mcast")?))
        };
        let ((connection, handle, messages), groups) = match &netns {
            Some(netns) => kni::netns::within(netns, open).map_err(io::Error::other)??,
            None => open()?,
        };
        tokio::spawn(connection);
        let messages = Box::new(messages.map(|(message, _)| message));
        let saved = Saved::of(state_dir, netns.as_deref());
        let given = Given::default();
        Ok(Self { knis, netns, handle, messages, groups, saved, given })
    }

    /// Adds what was kept of KNIs that are new.
    async fn restore(&mut self) {
        for (index, (_, name)) in &self.knis {
            for net in self.saved.addresses(name) {
                let added = self.handle.address().add(*index, net.addr(), net.prefix_len());
                match added.execute().await {
                    Ok(()) => tracing::info!(dev = name, address = %net, "address restored"),
                    Err(error) if is_there(&error) => {}
                    Err(error) => {
                        tracing::warn!(dev = name, address = %net, %error, "address not restored");
                    }
                }
            }
        }
    }

    /// What the kernel has now.
    async fn look(&mut self) -> Result<Found, rtnetlink::Error> {
        let mut found = Found::default();
        let mut list = self.handle.address().get().execute();
        while let Some(message) = list.try_next().await? {
            let Some((interface, _)) = self.knis.get(&message.header.index) else { continue };
            found.addresses.extend(held(*interface, &message));
        }
        found.addresses.sort_unstable();
        let mut text = String::new();
        let read = self.groups.rewind().and_then(|()| self.groups.read_to_string(&mut text));
        read.map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
        for (index, mac) in text.lines().filter_map(group) {
            found.groups.extend(self.knis.get(&index).map(|(interface, _)| (*interface, mac)));
        }
        Ok(found)
    }

    /// Keeps the addresses that are the node's own: none that floats between nodes.
    fn keep(&mut self, state: &State, found: &Found) {
        let floats = |held: &Held| {
            let address = held.net.addr();
            let mut configured = state.config.addresses.iter();
            configured.any(|entry| {
                entry.active == config::Active::WithKernel && entry.address.address() == address
            })
        };
        let mut own: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
        let lasts = |id: EthPortId| !state.health.is_implied(state.name(id));
        for (id, name) in self.knis.values().filter(|(id, _)| lasts(*id)) {
            let here = found.addresses.iter().filter(|held| held.interface == *id);
            let lasting = here.filter(|held| held.lasting && !floats(held)).map(|held| held.net);
            own.insert(name, lasting.collect());
        }
        if let Err(error) = self.saved.replace(&own) {
            let netns = self.netns.as_deref().unwrap_or_default();
            tracing::warn!(%error, netns, "addresses of the kernel are not kept over a restart");
        }
    }
}

fn is_there(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else { return false };
    message.to_io().kind() == io::ErrorKind::AlreadyExists
}

/// The address that a message tells of.
fn held(interface: EthPortId, message: &AddressMessage) -> Option<Held> {
    let (mut address, mut local, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(found) => address = Some(*found),
            AddressAttribute::Local(found) => local = Some(*found),
            AddressAttribute::Flags(found) => flags = *found,
            _ => {}
        }
    }
    // Of both ends of a point-to-point link, the one here.
    let address = local.or(address)?;
    let net = IpNet::new(address, message.header.prefix_len).ok()?;
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let permanent = flags.contains(AddressFlags::Permanent)
        || message.header.flags.contains(AddressHeaderFlags::Permanent);
    let secondary = flags.contains(AddressFlags::Secondary)
        || message.header.flags.contains(AddressHeaderFlags::Secondary);
    let alone = net.prefix_len() == net.max_prefix_len();
    let lasting = permanent && !secondary && !alone && !is_link_local;
    Some(Held { interface, net, lasting })
}

/// An interface's number and a group that it listens to, of a line of `dev_mcast`: number, name, users,
/// users without end, address.
fn group(line: &str) -> Option<(u32, MacAddr)> {
    let mut words = line.split_whitespace();
    let index = words.next()?.parse().ok()?;
    let digits = words.nth(3)?;
    let mut mac = [0; 6];
    for (at, octet) in (0..).step_by(2).zip(&mut mac) {
        *octet = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some((index, MacAddr(mac)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_the_kernel_writes_them() {
        let line = "4    wan0.kni        1     0     01005e000012";
        assert_eq!(group(line), Some((4, MacAddr([1, 0, 0x5e, 0, 0, 0x12]))));
        assert_eq!(group("4    wan0.kni        1     0     01005e"), None);
        assert_eq!(group(""), None);
    }

    #[test]
    fn floating_addresses_do_not_last() {
        let message = |address: &str, prefix_len, flags| {
            let mut message = AddressMessage::default();
            message.header.prefix_len = prefix_len;
            let local = AddressAttribute::Local(address.parse().unwrap());
            message.attributes = vec![local, AddressAttribute::Flags(flags)];
            held(EthPortId(0), &message).unwrap().lasting
        };
        let permanent = AddressFlags::Permanent;
        assert!(message("198.18.0.5", 24, permanent));
        assert!(!message("198.18.0.5", 24, AddressFlags::empty()), "of DHCP");
        assert!(!message("198.18.0.9", 24, permanent | AddressFlags::Secondary));
        assert!(!message("198.18.0.9", 32, permanent));
    }
}
