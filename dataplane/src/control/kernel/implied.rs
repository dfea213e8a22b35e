//! KNIs that are there for checks of real servers only: what the kernel needs on them, and nothing else.
//!
//! That is the interface's own address, alone, as the source of checks, and a route to each server.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::Follower;
use crate::control::Control;

/// An address, or a server with the router that leads to it.
type Routes = BTreeMap<Ipv4Addr, Option<Ipv4Addr>>;

/// What the kernel has got, by its numbers of the interfaces.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<u32, (BTreeSet<Ipv4Addr>, Routes)>);

impl Control {
    /// Gives the kernel what checks need on the KNIs of a follower, and takes away what they need no more.
    pub(super) async fn give_for_checks(&self, follower: &mut Follower) {
        let wanted: Vec<_> = {
            let state = self.state();
            let knis = follower.knis.iter().map(|(index, (id, _))| (*index, *id));
            let implied = knis.filter(|(_, id)| state.health.is_implied(state.name(*id)));
            implied.map(|(index, id)| (index, id, state.of_checks(state.name(id)))).collect()
        };
        for (index, id, (addresses, routes)) in wanted {
            if let Err(error) = follower.give(index, addresses, routes).await {
                let dev = self.state().name(id).to_owned();
                tracing::warn!(%error, dev, "the kernel has not got what checks need");
            }
        }
    }
}

impl Follower {
    async fn give(
        &mut self,
        index: u32,
        addresses: BTreeSet<Ipv4Addr>,
        routes: Routes,
    ) -> Result<(), rtnetlink::Error> {
        let (had, led) = self.given.0.entry(index).or_default();
        let handle = &self.handle;
        for address in addresses.difference(had).copied().collect::<Vec<_>>() {
            handle.address().add(index, IpAddr::V4(address), 32).replace().execute().await?;
            had.insert(address);
        }
        for (server, via) in led.clone() {
            if routes.get(&server) != Some(&via) {
                handle.route().del(route(index, server, via)).execute().await?;
                led.remove(&server);
            }
        }
        for (server, via) in routes {
            if let Entry::Vacant(place) = led.entry(server) {
                handle.route().add(route(index, server, via)).replace().execute().await?;
                place.insert(via);
            }
        }
        for address in had.difference(&addresses).copied().collect::<Vec<_>>() {
            take(handle, index, address).await?;
            had.remove(&address);
        }
        Ok(())
    }
}

fn route(
    index: u32,
    server: Ipv4Addr,
    via: Option<Ipv4Addr>,
) -> rtnetlink::packet_route::route::RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new();
    let route = route.destination_prefix(server, 32).output_interface(index);
    match via {
        // The router is on the link, whatever subnets the kernel knows of.
        Some(via) => route.gateway(via).onlink().build(),
        None => route.scope(RouteScope::Link).build(),
    }
}

async fn take(handle: &Handle, index: u32, address: Ipv4Addr) -> Result<(), rtnetlink::Error> {
    let filter = handle.address().get().set_link_index_filter(index);
    let mut found = filter.set_address_filter(IpAddr::V4(address)).execute();
    while let Some(message) = found.try_next().await? {
        handle.address().del(message).execute().await?;
    }
    Ok(())
}
