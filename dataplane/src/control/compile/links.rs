//! Interfaces that the configuration makes of those that were started: VLANs.

use std::sync::Arc;

use config::{Config, ConfigError, ErrorKind, Path, Vlan};
use types::MacAddr;

use super::refuse;
use crate::snapshot::{Interface, Wire};

/// The interfaces that were started, with the VLANs of a configuration on them, as it wants them. Each has the number that it has in
/// `before`; that of one that went may be another's.
///
/// One that was started and is a VLAN has a kernel interface, and its number is nobody else's.
///
/// # Errors
/// If there are more than `most`.
pub fn with_vlans(
    started: &[Interface],
    config: &Config,
    before: &[Interface],
    most: usize,
) -> Result<Arc<[Interface]>, ConfigError> {
    let find = |name: &str| config.vlans.get(name).map(|vlan| &**vlan);
    let again = |old: &Interface| {
        let vlan = find(&old.name).and_then(|vlan| on_link(started, &old.name, vlan));
        vlan.map(|vlan| Interface { kni: old.kni, ..vlan })
    };
    let mut all: Vec<Interface> = started.to_vec();
    for interface in all.iter_mut().filter(|interface| interface.wire.vid != 0) {
        *interface = again(interface).unwrap_or_else(|| Interface {
            up: false,
            wire: Wire::NONE,
            ..interface.clone()
        });
    }
    let made = before.get(started.len()..).unwrap_or_default();
    all.extend(made.iter().map(|old| again(old).unwrap_or_else(vacant)));
    for (name, vlan) in &config.vlans {
        if all.iter().any(|interface| *interface.name == **name) {
            continue;
        }
        let Some(new) = on_link(started, name, vlan) else { continue };
        let places = all.get_mut(started.len()..).unwrap_or_default();
        match places.iter_mut().find(|place| is_vacant(place)) {
            Some(place) => *place = new,
            None => all.push(new),
        }
    }
    for interface in &mut all {
        interface.silent = config.forwarding.silent.iter().any(|dev| **dev == *interface.name);
    }
    if all.len() > most {
        let message = format!("{} interfaces are more than {most} without a restart", all.len());
        let error = refuse(ErrorKind::Invalid, Path::of("vlans"), all.len(), message);
        return Err(ConfigError { hint: Some("restart the daemon".to_owned()), ..error });
    }
    Ok(all.into())
}

/// A VLAN on its link.
fn on_link(started: &[Interface], name: &str, vlan: &Vlan) -> Option<Interface> {
    let link = started.iter().find(|interface| *interface.name == *vlan.link)?;
    let wire = Wire { vid: vlan.id, ..link.wire };
    Some(Interface { name: name.into(), kni: false, wire, ..link.clone() })
}

/// In the place of one that went.
fn vacant() -> Interface {
    Interface {
        name: "".into(),
        mac: MacAddr::default(),
        mtu: u16::MAX,
        up: false,
        kni: false,
        silent: false,
        wire: Wire::NONE,
    }
}

/// Whether nobody is at this place.
pub fn is_vacant(interface: &Interface) -> bool {
    interface.name.is_empty()
}

/// Whether routing is the same on both: all but whether they are up.
pub fn route_alike(one: &[Interface], other: &[Interface]) -> bool {
    let routed = |interface: &Interface| {
        (Arc::clone(&interface.name), interface.mac, interface.mtu, interface.wire)
    };
    one.iter().map(routed).eq(other.iter().map(routed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, port: u16) -> Interface {
        let mac = MacAddr([2, 0, 0, 0, 0, port as u8]);
        Interface {
            name: name.into(),
            mac,
            wire: Wire::untagged(port),
            up: true,
            mtu: 1500,
            kni: false,
            silent: false,
        }
    }

    fn config(vlans: &str) -> Config {
        let text = format!(
            "interfaces: {{ lan0: {{ device: net_null0 }}, wan0: {{ device: net_null1 }} }}\nvlans: {vlans}\n"
        );
        config::load(&text, "test.yaml").unwrap().0.into_config()
    }

    fn names(interfaces: &[Interface]) -> Vec<(&str, u16, u16)> {
        let all = interfaces.iter();
        all.map(|one| (&*one.name, one.wire.port, one.wire.vid)).collect()
    }

    #[test]
    fn numbers_stay_and_those_of_the_gone_are_taken_again() {
        let ports = [port("lan0", 0), port("wan0", 1)];
        let first = config("{ a: { link: wan0, id: 7 }, b: { link: wan0, id: 8 } }");
        let first = with_vlans(&ports, &first, &[], 9).unwrap();
        assert_eq!(names(&first[2..]), [("a", 1, 7), ("b", 1, 8)]);
        assert_eq!(first[3].mac, ports[1].mac);
        let second = config("{ b: { link: lan0, id: 8 } }");
        let second = with_vlans(&ports, &second, &first, 9).unwrap();
        assert_eq!(names(&second[2..]), [("", u16::MAX, 0), ("b", 0, 8)]);
        assert!(!second[2].up && !route_alike(&first, &second));
        let third = config(
            "{ c: { link: lan0, id: 9 }, b: { link: lan0, id: 8 }, d: { link: lan0, id: 1 } }",
        );
        let third = with_vlans(&ports, &third, &second, 5).unwrap();
        assert_eq!(names(&third[2..]), [("c", 0, 9), ("b", 0, 8), ("d", 0, 1)]);
        let fourth = config(
            "{ c: { link: lan0, id: 9 }, b: { link: lan0, id: 8 }, d: { link: lan0, id: 1 } }",
        );
        let error = with_vlans(&ports, &fourth, &second, 4).unwrap_err();
        assert!(error.message.contains("5 interfaces are more than 4"), "{error}");
    }

    #[test]
    fn who_has_a_kernel_interface_keeps_its_number() {
        let vlan =
            Interface { kni: true, wire: Wire { vid: 7, ..Wire::untagged(0) }, ..port("a", 0) };
        let started = [port("lan0", 0), vlan];
        let gone =
            with_vlans(&started, &config("{ b: { link: lan0, id: 7 } }"), &started, 9).unwrap();
        assert_eq!(names(&gone[1..]), [("a", u16::MAX, 0), ("b", 0, 7)]);
        assert!(!gone[1].up);
        let back = with_vlans(&started, &config("{ a: { link: lan0, id: 9 } }"), &gone, 9).unwrap();
        assert_eq!(names(&back[1..]), [("a", 0, 9), ("", u16::MAX, 0)]);
        assert!(back[1].kni && back[1].up);
    }
}
