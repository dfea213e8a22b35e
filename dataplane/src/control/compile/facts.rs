//! What a configuration is compiled for.

use std::sync::Arc;

use config::{Config, ConfigError, ErrorKind, Path};
use steer::Steering;
use types::{EthPortId, MacAddr};

use super::{links, refuse};
use crate::snapshot::{Interface, KernelSide, Wire};

/// What a configuration is compiled for: the interfaces and workers that were started.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The interfaces that were started, by number.
    pub started: Arc<[Interface]>,
    /// Those and the VLANs on them.
    pub interfaces: Arc<[Interface]>,
    /// Which worker owns which key.
    pub steering: Arc<Steering>,
    /// Secret of the workers' NAT states.
    pub nat_seed: [u64; 2],
    /// What the kernel has on their KNIs.
    pub kernel: Arc<KernelSide>,
}

impl Facts {
    /// The interfaces that were started for a configuration, before the kernel has anything on them.
    ///
    /// # Errors
    /// If there are too many.
    pub fn new(
        config: &Config,
        started: Arc<[Interface]>,
        steering: Arc<Steering>,
        nat_seed: [u64; 2],
    ) -> Result<Self, ConfigError> {
        let interfaces = links::with_vlans(&started, config, &[], usize::MAX)?;
        Ok(Self { started, interfaces, steering, nat_seed, kernel: Arc::default() })
    }

    /// What a configuration asks for, before any interface has been started: all of it, with the
    /// addresses of none.
    ///
    /// # Errors
    /// If there are too many.
    pub fn assumed(config: &Config, steering: Arc<Steering>) -> Result<Self, ConfigError> {
        let ports = config.interfaces.iter().zip(0..);
        let interfaces = ports.map(|((name, interface), port)| Interface {
            name: name.as_str().into(),
            mac: MacAddr::default(),
            mtu: interface.mtu,
            up: true,
            kni: interface.kni.is_some(),
            silent: false,
            wire: Wire::untagged(port),
        });
        Self::new(config, interfaces.collect(), steering, [0; 2])
    }

    pub(super) fn is_there(&self, interface: EthPortId) -> bool {
        let found = self.interfaces.get(usize::from(interface.0));
        found.is_some_and(|interface| !links::is_vacant(interface))
    }

    pub(super) fn interface(
        &self,
        name: &str,
        path: impl FnOnce() -> Path,
    ) -> Result<EthPortId, ConfigError> {
        let place = self.interfaces.iter().position(|interface| *interface.name == *name);
        place.map(|place| EthPortId(place as u16)).ok_or_else(|| {
            let message = format!("the interface `{name}` has not been started");
            let hint = Some("restart the daemon to start it".to_owned());
            ConfigError { hint, ..refuse(ErrorKind::NotFound, path(), name, message) }
        })
    }
}
