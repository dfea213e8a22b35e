//! `-H`: what a rule of source NAT applies to, as DPVS writes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use config::{AddressMatch, AddressRange, IpProtocol, Match, PortRange, SnatRule};

use super::super::{Failure, Outcome};

/// A range of addresses and ports; all of both if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Range {
    addresses: Option<AddressRange>,
    ports: Option<PortRange>,
}

impl Range {
    fn is_any(self) -> bool {
        self == Self::default()
    }

    /// `A-B:P-Q`, all of it in numbers.
    fn text(self, v6: bool) -> String {
        let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let (first, last) = self.addresses.map_or((any, any), |r| (r.first(), r.last()));
        let (low, high) = self.ports.map_or((0, 0), |ports| (ports.first(), ports.last()));
        match first {
            IpAddr::V4(_) => format!("{first}-{last}:{low}-{high}"),
            IpAddr::V6(_) => format!("[{first}-{last}]:{low}-{high}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (addresses, ports) = match bare {
            Some((addresses, rest)) => (addresses, rest.strip_prefix(':')),
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(a, p)| (a, Some(p))),
        };
        let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
        let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
        let all = first.is_unspecified() && last.is_unspecified();
        let addresses = if all { None } else { Some(AddressRange::new(first, last)?) };
        let ports = match ports {
            None => None,
            Some(ports) => {
                let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
                match (low.parse().ok()?, high.parse().ok()?) {
                    (0u16, 0u16) => None,
                    (low, high) => Some(PortRange::new(low, high)?),
                }
            }
        };
        Some(Self { addresses, ports })
    }
}

/// What a rule of DPVS applies to: one protocol, one range each way, interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MatchRule {
    /// The protocol's number in the IP header.
    pub(super) protocol: IpProtocol,
    pub(super) v6: bool,
    source: Range,
    destination: Range,
    in_dev: String,
    out_dev: String,
}

impl MatchRule {
    /// Reads the value of `-H`.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let wrong = |part: &str| Failure::usage(format!("illegal match specified: `{part}`"));
        let mut rule = Self {
            protocol: IpProtocol::TCP,
            v6: false,
            source: Range::default(),
            destination: Range::default(),
            in_dev: String::new(),
            out_dev: String::new(),
        };
        let (mut protocol, mut family, mut has_range) = (None, None, false);
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            match key {
                "proto" => protocol = Some(number(value).ok_or_else(|| wrong(part))?),
                "src-range" | "dst-range" => {
                    let range = Range::parse(value).ok_or_else(|| wrong(part))?;
                    has_range = true;
                    let v6 = value.contains("::") || value.matches(':').count() > 1;
                    if family.is_some_and(|known| known != v6) {
                        return Err(wrong(part));
                    }
                    family = Some(v6);
                    match key {
                        "src-range" => rule.source = range,
                        _ => rule.destination = range,
                    }
                }
                "iif" => value.clone_into(&mut rule.in_dev),
                "oif" => value.clone_into(&mut rule.out_dev),
                "af" if matches!(value, "ipv4" | "ipv6") => {
                    let v6 = value == "ipv6";
                    if family.is_some_and(|known| known != v6) {
                        return Err(wrong(part));
                    }
                    family = Some(v6);
                }
                _ => return Err(wrong(part)),
            }
        }
        rule.protocol = protocol.ok_or_else(|| wrong(text))?;
        rule.v6 = match family {
            Some(v6) => v6,
            None if has_range => false,
            None => return Err(Failure::usage(format!("{}: `{text}`", NEEDS))),
        };
        Ok(rule)
    }

    /// As lists show it.
    pub(super) fn listed(&self) -> String {
        let mut text = name(self.protocol);
        for (key, range) in [("from", self.source), ("to", self.destination)] {
            if !range.is_any() {
                text.push_str(&format!(",{key}={}", range.text(self.v6)));
            }
        }
        for (key, dev) in [("iif", &self.in_dev), ("oif", &self.out_dev)] {
            if !dev.is_empty() {
                text.push_str(&format!(",{key}={dev}"));
            }
        }
        text
    }

    /// As `-S` writes it, and as `-H` reads it.
    pub(super) fn saved(&self) -> String {
        format!(
            "proto={},src-range={},dst-range={},iif={},oif={}",
            name(self.protocol),
            self.source.text(self.v6),
            self.destination.text(self.v6),
            self.in_dev,
            self.out_dev,
        )
    }

    /// The same in a configuration.
    pub(super) fn to_config(&self) -> Match {
        let addresses =
            |range: Range| range.addresses.map(AddressMatch::from).into_iter().collect();
        let dev = |dev: &String| (!dev.is_empty()).then(|| dev.clone());
        Match {
            source: addresses(self.source),
            destination: addresses(self.destination),
            protocol: vec![self.protocol],
            source_ports: self.source.ports.into_iter().collect(),
            destination_ports: self.destination.ports.into_iter().collect(),
            in_dev: dev(&self.in_dev),
            out_dev: dev(&self.out_dev),
            ..Match::default()
        }
    }

    /// What a rule applies to, as far as DPVS can say it: several rules, if it needs several.
    pub(super) fn all_of(rule: &SnatRule) -> Vec<Self> {
        let Match { source, destination, protocol, source_ports, destination_ports, .. } =
            &rule.matches;
        let any = [IpProtocol::TCP, IpProtocol::UDP, IpProtocol::ICMP];
        let protocols = if protocol.is_empty() { &any[..] } else { protocol };
        let (sources, destinations) =
            (ranges(source, source_ports), ranges(destination, destination_ports));
        let dev = |dev: &Option<String>| dev.clone().unwrap_or_default();
        let mut all = Vec::new();
        for protocol in protocols {
            for source in &sources {
                for destination in &destinations {
                    let first = source.addresses.or(destination.addresses);
                    all.push(Self {
                        protocol: *protocol,
                        v6: first.is_some_and(|range| range.first().is_ipv6()),
                        source: *source,
                        destination: *destination,
                        in_dev: dev(&rule.matches.in_dev),
                        out_dev: dev(&rule.matches.out_dev),
                    });
                }
            }
        }
        all
    }

    /// A name for a rule that has none yet: readable, and another for each match.
    pub(super) fn rule_name(&self) -> String {
        let listed = self.listed().replace(":0-0", "");
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let readable: String = listed.chars().map(plain).collect();
        // As long as a name may be.
        if readable.len() <= 63 {
            return readable;
        }
        // FNV-1a: the names of two matches that begin alike differ.
        let hash = self.saved().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let beginning: String = readable.chars().take(46).collect();
        format!("{beginning}-{hash:016x}")
    }
}

const NEEDS: &str = "a match needs src-range, dst-range or af";

fn ranges(addresses: &[AddressMatch], ports: &[PortRange]) -> Vec<Range> {
    let some = |addresses: Option<AddressRange>| -> Vec<Range> {
        match ports {
            [] => vec![Range { addresses, ports: None }],
            ports => ports.iter().map(|ports| Range { addresses, ports: Some(*ports) }).collect(),
        }
    };
    match addresses {
        [] => some(None),
        addresses => addresses.iter().flat_map(|range| some(Some(**range))).collect(),
    }
}

fn number(name: &str) -> Option<IpProtocol> {
    match name {
        "tcp" => Some(IpProtocol::TCP),
        "udp" => Some(IpProtocol::UDP),
        "icmp" => Some(IpProtocol::ICMP),
        "sctp" => Some(IpProtocol::new(132)),
        "icmpv6" => Some(IpProtocol::new(58)),
        _ => None,
    }
}

fn name(protocol: IpProtocol) -> String {
    if protocol.number() == 58 { "icmpv6".to_owned() } else { protocol.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: &str = "proto=tcp,src-range=192.168.100.2-192.168.100.100,oif=dpdk0";

    #[test]
    fn a_match_is_listed_and_saved_as_dpvs_does() {
        let rule = MatchRule::parse(OFFICE).unwrap();
        assert_eq!(rule.listed(), "tcp,from=192.168.100.2-192.168.100.100:0-0,oif=dpdk0");
        assert_eq!(
            rule.saved(),
            "proto=tcp,src-range=192.168.100.2-192.168.100.100:0-0,\
             dst-range=0.0.0.0-0.0.0.0:0-0,iif=,oif=dpdk0"
        );
        assert_eq!(rule.rule_name(), "tcp-from-192.168.100.2-192.168.100.100-oif-dpdk0");
        assert_eq!(MatchRule::parse(&rule.saved()).unwrap(), rule);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            OFFICE,
            "proto=udp,af=ipv4,iif=dpdk1",
            "proto=icmp,dst-range=10.0.0.1",
            "proto=udp,src-range=10.0.0.1-10.0.0.9:1000-2000,dst-range=10.1.0.1:53",
            "proto=tcp,src-range=[2001::1-2001::9]:1-9",
            "proto=tcp,src-range=2001::1-2001::9,oif=dpdk0",
        ] {
            let rule = MatchRule::parse(text).expect(text);
            assert_eq!(MatchRule::parse(&rule.saved()).unwrap(), rule, "{text}");
            let config = SnatRule { matches: rule.to_config(), ..rule_of("{}") };
            if !text.contains("af=") {
                assert_eq!(MatchRule::all_of(&config), [rule], "{text}");
            }
        }
    }

    fn rule_of(text: &str) -> SnatRule {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_no_match_is_refused() {
        for text in [
            "",
            "proto=tcp",
            "proto=ip,af=ipv4",
            "src-range=10.0.0.1",
            "proto=tcp,src-range=10.0.0.9-10.0.0.1",
            "proto=tcp,src-range=10.0.0.1:9-1",
            "proto=tcp,src-range=10.0.0.1,af=ipv6",
            "proto=tcp,af=ipv4,oif",
            "proto=tcp,af=ipv4,mark=1",
        ] {
            assert!(matches!(MatchRule::parse(text), Err(Failure::Usage(_, 2))), "{text}");
        }
    }

    #[test]
    fn a_rule_of_many_is_many_rules() {
        let rule = rule_of(
            r#"{"match": {"source": ["10.0.0.0/8", "192.168.0.0/16"], "out_dev": "wan0"}}"#,
        );
        let all = MatchRule::all_of(&rule);
        assert_eq!(all.len(), 6);
        assert_eq!(all[1].listed(), "tcp,from=192.168.0.0-192.168.255.255:0-0,oif=wan0");
    }

    #[test]
    fn long_matches_have_names_of_their_own() {
        let long = |last: u8| {
            let ranges = "src-range=192.168.100.100-192.168.100.199,dst-range=203.0.113.100";
            let text = format!("proto=tcp,{ranges}-203.0.113.{last},iif=dpdk1,oif=dpdk0");
            MatchRule::parse(&text).unwrap().rule_name()
        };
        assert!(long(101).len() <= 63);
        assert_ne!(long(101), long(102));
    }
}
