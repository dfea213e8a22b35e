//! Commands of `ipvsadm` that change something, one at a time.

use std::net::IpAddr;

use api::{
    AddressInfo, ClientError, DevQuery, NewLip, Operation, Request, ServerInfo, ServiceInfo,
    ServiceQuery, SnatInfo,
};
use config::{
    Mode, Protocol, Server, Servers, Service, SnatAction, SnatRule, WanAddresses, WanRange,
};
use serde_json::json;
use types::Endpoint;

use super::super::dpvs::{Code, Message};
use super::super::missing;
use super::super::{Compat, Failure, Outcome, plainly};
use super::address::plain;
use super::matching::MatchRule;
use super::options::{Opt, Words};
use super::settings::{Key, Method, Settings, Target, method};

/// The service of a VIP and port.
///
/// # Errors
/// As DPVS refuses `message` if there is none.
pub(super) fn service_at(
    compat: &Compat<'_>,
    message: Message,
    protocol: Protocol,
    vip: Endpoint,
) -> Outcome<ServiceInfo> {
    let query = ServiceQuery { vip: Some(vip), protocol: Some(protocol) };
    let found: Vec<ServiceInfo> = compat.ask(Request::new(Operation::ServiceList).query(&query))?;
    found.into_iter().next().ok_or(Failure::Refused(message, Code::NotExist, None))
}

/// The rule that applies to a match.
///
/// # Errors
/// As DPVS refuses `message` if there is none; if the rule applies to more than this.
fn rule_of(compat: &Compat<'_>, message: Message, wanted: &MatchRule) -> Outcome<SnatInfo> {
    let rules: Vec<SnatInfo> = compat.ask(Request::new(Operation::SnatList))?;
    let (rule, all) = rules
        .into_iter()
        .filter(|rule| rule.config.action != SnatAction::Accept)
        .map(|rule| {
            let all = MatchRule::all_of(&rule.config);
            (rule, all)
        })
        .find(|(_, all)| all.contains(wanted))
        .ok_or(Failure::Refused(message, Code::NotExist, None))?;
    if all.len() > 1 || rule.config.matches != wanted.to_config() {
        let what = format!("a change of the rule `{}`", rule.name);
        return Err(Failure::not_supported(what, missing::RULE));
    }
    Ok(rule)
}

/// What is changed of a service, if that is its only VIP and its servers are its own.
fn alone(info: &ServiceInfo, what: &str) -> Outcome {
    let shared = matches!(info.config.servers, Servers::Group(_));
    if info.config.vips.len() > 1 || shared {
        let what = format!("{what} of service `{}`", info.name);
        return Err(Failure::not_supported(what, missing::SEVERAL));
    }
    Ok(())
}

pub(super) fn add_service(compat: &Compat<'_>, words: &Words) -> Outcome {
    let key = Key::needed(words)?;
    let settings = Settings::of(words, &key)?;
    let request = match &key {
        Key::Service(protocol, vip) => {
            let mut service = Service::new(vec![*vip], *protocol);
            settings.set(&mut service);
            Request::new(Operation::ServiceAdd).name("name", &key.new_name()).json(&service)
        }
        Key::Match(wanted) => {
            match rule_of(compat, Message::SERVICE_ADD, wanted) {
                Err(Failure::Refused(_, Code::NotExist, None)) => {}
                Ok(_) => return Err(Failure::Refused(Message::SERVICE_ADD, Code::Exist, None)),
                Err(error) => return Err(error),
            }
            let rule = new_rule(wanted, &settings);
            Request::new(Operation::SnatAdd).name("name", &key.new_name()).json(&rule)
        }
    };
    plainly(compat.change(Message::SERVICE_ADD, request))
}

/// A rule without a WAN IP yet: it drops what it applies to, as a service without a server does.
pub(super) fn new_rule(wanted: &MatchRule, settings: &Settings) -> SnatRule {
    let mut rule =
        SnatRule { matches: wanted.to_config(), action: SnatAction::Drop, ..SnatRule::default() };
    settings.set_rule(&mut rule);
    rule
}

pub(super) fn edit_service(compat: &Compat<'_>, words: &Words) -> Outcome {
    let key = Key::needed(words)?;
    let settings = Settings::of(words, &key)?;
    let message = Message::SERVICE_EDIT;
    let request = match &key {
        Key::Service(protocol, vip) => {
            let info = service_at(compat, message, *protocol, *vip)?;
            let request = Request::new(Operation::ServiceSet).name("name", &info.name);
            request.json(&settings.patch(&info.config))
        }
        Key::Match(wanted) => {
            let SnatInfo { name, mut config, .. } = rule_of(compat, message, wanted)?;
            settings.set_rule(&mut config);
            Request::new(Operation::SnatPut).name("name", &name).json(&config)
        }
    };
    plainly(compat.change(message, request))
}

pub(super) fn delete_service(compat: &Compat<'_>, words: &Words) -> Outcome {
    let message = Message::SERVICE_DEL;
    let request = match Key::needed(words)? {
        Key::Service(protocol, vip) => {
            let info = service_at(compat, message, protocol, vip)?;
            let left: Vec<Endpoint> =
                info.config.vips.iter().copied().filter(|other| *other != vip).collect();
            if left.is_empty() {
                Request::new(Operation::ServiceDelete).name("name", &info.name)
            } else {
                let request = Request::new(Operation::ServiceSet).name("name", &info.name);
                request.json(&json!({ "vips": left }))
            }
        }
        Key::Match(wanted) => {
            let rule = rule_of(compat, message, &wanted)?;
            Request::new(Operation::SnatDelete).name("name", &rule.name)
        }
    };
    plainly(compat.change(message, request))
}

/// Adds or changes a real server.
pub(super) fn set_server(compat: &mut Compat<'_>, words: &Words, adds: bool) -> Outcome {
    let key = Key::needed(words)?;
    let method = method(words, &key)?;
    let target = Target::of(words, &key)?;
    let message = if adds { Message::SERVER_ADD } else { Message::SERVER_EDIT };
    match &key {
        Key::Service(protocol, vip) => {
            let method = match (method, adds) {
                (None, true) => {
                    return Err(Failure::not_supported("direct routing (-g)", missing::DIRECT));
                }
                (method, _) => method,
            };
            let info = service_at(compat, message, *protocol, *vip)?;
            let request = if adds {
                alone(&info, "one VIP")?;
                new_server(&info, &target, method)?
            } else {
                note_shared(compat, &info)?;
                let request = Request::new(Operation::ServerSet).name("name", &info.name);
                let request = request.name("address", &target.address.to_string());
                same_method(&info, method)?;
                request.json(&target.fields())
            };
            plainly(compat.change(message, request))
        }
        Key::Match(wanted) => {
            let SnatInfo { name, mut config, .. } = rule_of(compat, message, wanted)?;
            put_wan(&mut config, &target, adds, message)?;
            let request = Request::new(Operation::SnatPut).name("name", &name).json(&config);
            plainly(compat.change(message, request))
        }
    }
}

/// A change of a server that others have, too, is told.
fn note_shared(compat: &mut Compat<'_>, info: &ServiceInfo) -> Outcome {
    let vips = info.config.vips.len();
    let group = match &info.config.servers {
        Servers::Group(group) => format!(" with server group `{group}`"),
        Servers::Inline(_) if vips == 1 => return Ok(()),
        Servers::Inline(_) => String::new(),
    };
    let note = format!("note: this changes service `{}` of {vips} VIPs{group}\n", info.name);
    compat.complain(&note)
}

fn same_method(info: &ServiceInfo, method: Option<Method>) -> Outcome {
    match method.filter(|method| *method != Method::of_mode(info.config.mode)) {
        Some(method) => {
            let what = format!("{} in service `{}`", method.option(), info.name);
            Err(Failure::not_supported(what, missing::MODES))
        }
        None => Ok(()),
    }
}

/// The first server says of which mode the service is.
fn new_server(info: &ServiceInfo, target: &Target, method: Option<Method>) -> Outcome<Request> {
    let is_first = !info.servers.iter().any(|server: &ServerInfo| !server.leaving && !server.sorry);
    if !is_first || same_method(info, method).is_ok() {
        same_method(info, method)?;
        let request = Request::new(Operation::ServerAdd).name("name", &info.name);
        let request = request.name("address", &target.address.to_string());
        return Ok(request.json(&target.fields()));
    }
    let mode = mode_of(method);
    let server = Server {
        weight: target.weight,
        limits: target.limits.clone(),
        ..Server::new(target.address)
    };
    let request = Request::new(Operation::ServiceSet).name("name", &info.name);
    Ok(request.json(&json!({ "mode": mode, "servers": [server] })))
}

pub(super) const fn mode_of(method: Option<Method>) -> Mode {
    match method {
        Some(Method::Masq) => Mode::Nat,
        Some(Method::FullNat | Method::Snat) | None => Mode::Fullnat,
    }
}

/// Puts a WAN IP into a rule.
///
/// # Errors
/// If it is there (`adds`) or is not.
pub(super) fn put_wan(
    rule: &mut SnatRule,
    target: &Target,
    adds: bool,
    message: Message,
) -> Outcome {
    let Some(wan) = target.wan() else {
        if rule.wan_addresses == WanAddresses::Interface && adds {
            return Err(Failure::Refused(message, Code::Exist, None));
        }
        rule.wan_addresses = WanAddresses::Interface;
        rule.action = SnatAction::Translate;
        return Ok(());
    };
    let mut ranges = pool(rule);
    let address = target.address.address;
    match (ranges.iter().position(|range| range.address.contains(address)), adds) {
        (Some(_), true) => return Err(Failure::Refused(message, Code::Exist, None)),
        (None, false) => return Err(Failure::Refused(message, Code::NotExist, None)),
        (Some(place), false) => {
            let old = ranges.remove(place);
            let rest = old.address.without(address).into_iter();
            let rest = rest.map(|address| WanRange { address, ..old.clone() });
            ranges.splice(place..place, std::iter::once(wan).chain(rest));
        }
        (None, true) => ranges.push(wan),
    }
    rule.wan_addresses = WanAddresses::Pool(ranges);
    rule.action = SnatAction::Translate;
    Ok(())
}

fn pool(rule: &SnatRule) -> Vec<WanRange> {
    match &rule.wan_addresses {
        WanAddresses::Interface => Vec::new(),
        WanAddresses::Pool(ranges) => ranges.clone(),
    }
}

pub(super) fn delete_server(compat: &Compat<'_>, words: &Words) -> Outcome {
    let key = Key::needed(words)?;
    let target = Target::of(words, &key)?;
    let message = Message::SERVER_DEL;
    let request = match &key {
        Key::Service(protocol, vip) => {
            let info = service_at(compat, message, *protocol, *vip)?;
            alone(&info, "one VIP")?;
            let request = Request::new(Operation::ServerDelete).name("name", &info.name);
            request.name("address", &target.address.to_string())
        }
        Key::Match(wanted) => {
            let SnatInfo { name, mut config, .. } = rule_of(compat, message, wanted)?;
            remove_wan(&mut config, target.address.address)?;
            Request::new(Operation::SnatPut).name("name", &name).json(&config)
        }
    };
    plainly(compat.change(message, request))
}

fn remove_wan(rule: &mut SnatRule, address: IpAddr) -> Outcome {
    let none = Failure::Refused(Message::SERVER_DEL, Code::NotExist, None);
    let left: Vec<WanRange> = match &rule.wan_addresses {
        WanAddresses::Interface if address.is_unspecified() => Vec::new(),
        WanAddresses::Interface => return Err(none),
        WanAddresses::Pool(ranges) => {
            if !ranges.iter().any(|range| range.address.contains(address)) {
                return Err(none);
            }
            let without = |range: &WanRange| {
                let range = range.clone();
                range
                    .address
                    .without(address)
                    .into_iter()
                    .map(move |address| WanRange { address, ..range.clone() })
            };
            ranges.iter().flat_map(without).collect()
        }
    };
    if left.is_empty() {
        rule.action = SnatAction::Drop;
    }
    rule.wan_addresses = WanAddresses::Pool(left);
    Ok(())
}

pub(super) fn add_laddr(compat: &mut Compat<'_>, words: &Words) -> Outcome {
    let message = Message::LADDR_ADD;
    let (info, lip, dev) = laddr(compat, words, message)?;
    if info.lips.iter().any(|has| has.address == lip) {
        return Err(Failure::Refused(message, Code::Exist, None));
    }
    let query = DevQuery { dev: Some(dev.clone()) };
    let ours: Result<Vec<AddressInfo>, ClientError> =
        compat.client.send(Request::new(Operation::AddressList).query(&query));
    let ours = match ours {
        Ok(ours) => ours,
        Err(ClientError::Refused(_)) => {
            let reason = Some(format!("{dev}: there is no such interface"));
            return Err(Failure::Refused(message, Code::NoDev, reason));
        }
        Err(error) => return Err(Failure::Other(error.into())),
    };
    let body = NewLip { addresses: lip.into(), dev: Some(dev) };
    let request = Request::new(Operation::LipAdd).name("name", &info.name).json(&body);
    plainly(compat.change(message, request))?;
    if ours.iter().any(|known| known.address.address() == lip) {
        // DPVS adds a LIP as an address, too, and says when that was there; it is no failure.
        let told = Failure::Refused(Message::ADDRESS_ADD, Code::Exist, None);
        let text = told.text(super::super::Personality::Ipvsadm);
        compat.complain(text.trim_end_matches("Success\n"))?;
    }
    Ok(())
}

pub(super) fn del_laddr(compat: &mut Compat<'_>, words: &Words) -> Outcome {
    let message = Message::LADDR_DEL;
    let (info, lip, _) = laddr(compat, words, message)?;
    let request = Request::new(Operation::LipDelete).name("name", &info.name);
    plainly(compat.change(message, request.name("address", &lip.to_string())))
}

/// The service, the LIP and the interface that the options name.
fn laddr(
    compat: &Compat<'_>,
    words: &Words,
    message: Message,
) -> Outcome<(ServiceInfo, IpAddr, String)> {
    let Key::Service(protocol, vip) = Key::needed(words)? else {
        return Err(Failure::usage("a match service has no local address"));
    };
    let lip = plain(words.value(Opt::Laddr).unwrap_or_default(), "local")?;
    let dev = words.value(Opt::Ifname).unwrap_or_default().to_owned();
    let info = service_at(compat, message, protocol, vip)?;
    if info.config.vips.len() > 1 {
        let what = format!("a local address for one VIP of service `{}`", info.name);
        return Err(Failure::not_supported(what, missing::SEVERAL));
    }
    Ok((info, lip, dev))
}

/// Lets counts begin anew: of one service, or of all.
pub(super) fn zero(compat: &Compat<'_>, words: &Words) -> Outcome {
    let query = match Key::of(words)? {
        Some(Key::Service(protocol, vip)) => {
            ServiceQuery { vip: Some(vip), protocol: Some(protocol) }
        }
        Some(Key::Match(_)) => return Err(Failure::not_supported("-Z -H", missing::RULE)),
        None => ServiceQuery::default(),
    };
    let request = Request::new(Operation::ServiceZero).query(&query);
    plainly(compat.change(Message::SERVICE_ZERO, request))
}
