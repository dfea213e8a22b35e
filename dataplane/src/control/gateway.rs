//! What workers have of NAT rules that are gone: conns of WAN IPs, their ports, and the rules' slots.

use types::{Address as _, Slot, WorkerId};

use super::change::answer;
use super::compile::Compiler;
use super::{Control, Reply};
use crate::worker::link::{Command, ConnFilter, GatewayWork, ITEMS_MAX};

impl Control {
    /// Takes back what could not be taken back at once.
    ///
    /// # Errors
    /// If a worker does not answer; the next round asks again.
    pub(super) async fn clear_left(&self) -> Reply<()> {
        let mut compiler = self.shared.compiler.lock().await;
        self.clear_gateway(&mut compiler).await
    }

    /// Takes back what is left of WAN IPs and port forwards that the running snapshot does not have any more:
    /// the conns of such a WAN IP are closed and counted.
    ///
    /// # Errors
    /// If a worker does not answer; what is not done then is still left.
    pub(super) async fn clear_gateway(&self, compiler: &mut Compiler) -> Reply<()> {
        let left = compiler.gateway_leftovers();
        for (gone, still) in left.kept {
            let free = gone.without(&still);
            let work: Vec<_> = free.iter().flat_map(|kept| kept.work(false)).collect();
            for work in work {
                self.tell_gateway(work).await?;
            }
            compiler.ports_freed(&gone);
        }
        for (address, place) in left.wans {
            let workers: Vec<WorkerId> = self.state().workers.ids().collect();
            let mut closed = 0;
            for worker in workers {
                let conns = ConnFilter { translated: true, ..ConnFilter::default() };
                let out = ConnFilter { lip: Some(address.to_ip()), ..conns };
                closed += self.close_chosen(worker, out).await?;
                let into = ConnFilter { vip: Some(address.to_ip()), ..conns };
                closed += self.close_chosen(worker, into).await?;
            }
            self.tell_gateway(GatewayWork { wans: vec![(place, None)], ..Default::default() })
                .await?;
            compiler.wan_removed(address);
            let address = std::net::Ipv4Addr::from(address);
            tracing::info!(%address, closed, "a WAN IP is gone, and its conns with it");
        }
        Ok(())
    }

    /// Has the same done by all workers.
    async fn tell_gateway(&self, work: GatewayWork) -> Reply<()> {
        let GatewayWork { wans, ports, .. } = work;
        let workers: Vec<WorkerId> = self.state().workers.ids().collect();
        for worker in workers {
            let wans = wans.iter().map(|(place, _)| (*place, None)).collect();
            let work = GatewayWork { wans, ports: ports.clone(), ..GatewayWork::default() };
            let waiting = self.ask(worker, Command::Gateway(Box::new(work))).await?;
            answer(worker, waiting).await?;
        }
        Ok(())
    }

    /// Which of these slots of rules no conn of a worker names any more.
    ///
    /// # Errors
    /// If the worker does not answer.
    pub(super) async fn idle_rules(&self, worker: WorkerId, slots: &[Slot]) -> Reply<Vec<Slot>> {
        let mut idle = Vec::new();
        for slots in slots.chunks(ITEMS_MAX) {
            let work = GatewayWork { ended: slots.to_vec(), ..GatewayWork::default() };
            let waiting = self.ask(worker, Command::Gateway(Box::new(work))).await?;
            let Command::Gateway(back) = answer(worker, waiting).await? else { continue };
            idle.extend(slots.iter().filter(|slot| !back.ended.contains(slot)));
        }
        Ok(idle)
    }
}
