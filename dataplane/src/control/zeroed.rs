//! Counts of services that begin anew, and what uses each LIP.

use std::collections::HashMap;
use std::net::IpAddr;

use api::{ErrorBody, ErrorCode, LipUse, ServiceQuery, Warnings};
use config::Protocol;
use types::{Endpoint, Proto, Slot};

use super::services::{SlotTotals, lips_of};
use super::{Control, Reply};
use crate::worker::link::ConnFilter;

/// What services and servers had counted when an operator let them begin anew. Counters of workers
/// never go back, so that whoever reads them sees no jump.
#[derive(Debug, Default)]
pub(super) struct Zeroed {
    services: HashMap<Slot, balance::Totals>,
    servers: HashMap<Slot, balance::Totals>,
}

impl Zeroed {
    /// From now on these are nought.
    fn add(
        &mut self,
        totals: SlotTotals,
        lives: impl Fn(Slot) -> bool,
        lasts: impl Fn(Slot) -> bool,
    ) {
        self.services.retain(|slot, _| lives(*slot));
        self.servers.retain(|slot, _| lasts(*slot));
        self.services.extend(totals.services);
        self.servers.extend(totals.servers);
    }

    /// Takes off what was counted before; conns now stay as they are.
    pub(super) fn take_off(&self, totals: &mut SlotTotals) {
        for (zeroed, counted) in
            [(&self.services, &mut totals.services), (&self.servers, &mut totals.servers)]
        {
            for (slot, before) in zeroed {
                if let Some(now) = counted.get_mut(slot) {
                    less(now, before);
                }
            }
        }
    }
}

fn less(now: &mut balance::Totals, before: &balance::Totals) {
    let traffic = &mut now.traffic;
    for (now, before) in [
        (&mut now.opened, before.opened),
        (&mut now.refused, before.refused),
        (&mut traffic.forward_packets, before.traffic.forward_packets),
        (&mut traffic.forward_bytes, before.traffic.forward_bytes),
        (&mut traffic.reverse_packets, before.traffic.reverse_packets),
        (&mut traffic.reverse_bytes, before.traffic.reverse_bytes),
    ] {
        *now = now.saturating_sub(before);
    }
}

impl Control {
    /// Lets the counts of the chosen services and of their real servers begin anew.
    ///
    /// # Errors
    /// If there is no service at the VIP that is given, or a worker does not answer.
    pub async fn zero_services(&self, query: &ServiceQuery) -> Reply<Warnings> {
        let running = self.state().running();
        let names = running.chosen(query);
        if let (Some(vip), true) = (query.vip, names.is_empty()) {
            let message = format!("there is no service at {vip}");
            return Err(ErrorBody::new(ErrorCode::NotFound, message));
        }
        let compiled: Vec<_> = names.iter().filter_map(|name| running.compiled(name)).collect();
        let services = compiled.iter().map(|service| service.spec().slot).collect();
        let servers = compiled.iter().flat_map(|service| service.servers());
        let servers = servers.map(|server| server.slot).collect();
        let totals = self.totals(services, servers).await?;
        let all = running.config.services.keys().filter_map(|name| running.compiled(name));
        let (mut lives, mut lasts) = (Vec::new(), Vec::new());
        for service in all {
            lives.push(service.spec().slot);
            lasts.extend(service.servers().iter().map(|server| server.slot));
        }
        let (lives, lasts): (std::collections::HashSet<_>, std::collections::HashSet<_>) =
            (lives.into_iter().collect(), lasts.into_iter().collect());
        let mut state = self.state();
        state.zeroed.add(totals, |slot| lives.contains(&slot), |slot| lasts.contains(&slot));
        Ok(Warnings { warnings: Vec::new(), generation: state.snapshot.generation })
    }

    /// Local addresses of all services, with the conns of each VIP that use them.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn lip_uses(&self) -> Reply<Vec<LipUse>> {
        let mut counts: HashMap<(Proto, Endpoint, IpAddr), u64> = HashMap::new();
        self.for_each_conn(ConnFilter::default(), |record| {
            let key =
                (record.proto, record.forward.destination, record.reverse.destination.address);
            *counts.entry(key).or_default() += 1;
        })
        .await?;
        let config = self.config();
        let mut uses = Vec::new();
        for (name, service) in &config.services {
            let lips = lips_of(service, &config);
            for vip in &service.vips {
                let proto = match service.protocol {
                    Protocol::Tcp => Proto::Tcp,
                    Protocol::Udp => Proto::Udp,
                };
                uses.extend(lips.iter().map(|lip| LipUse {
                    service: name.clone(),
                    vip: *vip,
                    address: lip.address,
                    dev: lip.dev.clone(),
                    connections: counts.get(&(proto, *vip, lip.address)).copied().unwrap_or(0),
                }));
            }
        }
        Ok(uses)
    }
}

#[cfg(test)]
mod tests {
    use api::ServiceInfo;
    use testkit::pkt;
    use types::{MacAddr, WorkerId};

    use super::super::fake::{Bench, SHOP, WAN};
    use super::*;

    async fn shop(bench: &mut Bench) -> ServiceInfo {
        let control = bench.control.clone();
        let query = ServiceQuery {
            vip: Some("203.0.113.10:80".parse().unwrap()),
            protocol: Some(Protocol::Tcp),
        };
        let mut found = bench.run(async move { control.services(&query).await }).await.unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[tokio::test]
    async fn counts_begin_anew_and_conns_stay_counted() {
        let mut bench = Bench::start(SHOP).await;
        let mac = bench.control.state().snapshot.interfaces[1].mac;
        let gateway = MacAddr([2, 0, 0, 0, 0, 9]);
        let syn = pkt().eth(gateway, mac).ipv4("198.51.100.7", "203.0.113.10");
        bench.arrive(WorkerId(0), WAN, syn.tcp(40_000, 80).syn().build());
        (0..5).for_each(|_| bench.turn());
        let before = shop(&mut bench).await.traffic;
        assert_eq!((before.connections, before.inactive), (1, 1));
        let control = bench.control.clone();
        bench
            .run(async move { control.zero_services(&ServiceQuery::default()).await })
            .await
            .unwrap();
        let after = shop(&mut bench).await;
        assert_eq!((after.traffic.connections, after.traffic.inactive), (0, 1));
        assert!(after.servers.iter().all(|server| server.traffic.connections == 0));
        // Who has read the totals sees no jump.
        let control = bench.control.clone();
        let stats = bench.run(async move { control.stats().await }).await.unwrap();
        assert_eq!(stats.services["shop"].connections, 1);
        let control = bench.control.clone();
        let uses = bench.run(async move { control.lip_uses().await }).await.unwrap();
        assert_eq!(uses.len(), 8, "two VIPs with four LIPs each");
        let used: Vec<_> = uses.iter().filter(|lip| lip.connections == 1).collect();
        assert_eq!(used.len(), 1);
        assert_eq!((used[0].service.as_str(), used[0].vip.l4_port.0), ("shop", 80));
        let control = bench.control.clone();
        let query = ServiceQuery { vip: Some("203.0.113.10:81".parse().unwrap()), protocol: None };
        let refused = bench.run(async move { control.zero_services(&query).await }).await;
        assert_eq!(refused.unwrap_err().error.code, ErrorCode::NotFound);
    }
}
