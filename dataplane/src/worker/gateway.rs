//! What control changes of a worker's NAT state, between bursts.

use types::Io;

use super::Worker;
use super::link::GatewayWork;

impl<I: Io> Worker<I> {
    /// What is replaced or taken out goes back in place of what came.
    pub(super) fn change_gateway(&mut self, work: &mut GatewayWork) {
        let GatewayWork { state, begun, wans, ports, ended } = work;
        if self.core.nat.is_none() {
            self.core.nat = state.take();
        }
        let Some(nat) = &mut self.core.nat else {
            ended.clear();
            return;
        };
        begun.retain(|slot| !nat.begin(*slot));
        for (place, ports) in wans {
            let old = nat.wan_mut().remove(*place);
            let refused = ports.take().and_then(|ports| nat.wan_mut().add(*place, ports).err());
            *ports = refused.or(old);
        }
        if let Some(kept) = ports {
            for l4_port in kept.l4_ports.clone() {
                nat.wan_mut().reserve(kept.place, kept.proto, l4_port, kept.reserved);
            }
        }
        ended.retain(|slot| nat.counts(*slot).sessions > 0);
    }
}
