//! `ipvsadm -S` and `-R`: the table as commands, and back.
//!
//! What the commands cannot say of a service (its name, several VIPs in one, a shared pool) stands in a
//! comment behind them. Read again, it counts only if the commands still say the same: they may have
//! been edited.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ApplyQuery, Changes, ConfigFormat, ConfigQuery, Operation, Request};
use config::{
    Config, LocalPool, Ordered, Pool, Server, ServerGroup, Servers, Service, SnatAction, SnatRule,
};
use serde::Serialize;
use serde_json::json;
use types::Endpoint;

use super::super::dpvs::{Code, Message};
use super::super::{Compat, Failure, Outcome};
use super::address::{Style, plain};
use super::edit::{mode_of, new_rule, put_wan};
use super::matching::MatchRule;
use super::options::{Command, Opt, Words};
use super::settings::{Key, Method, Settings, Target, method, proxy_name, rule_scheduler};
use super::table::{conn_timeout, netmask, of_pool};

/// What begins the comment.
const COMMENT: &str = "#dpnat ";

pub(super) fn save(compat: &mut Compat<'_>, words: &Words) -> Outcome {
    let config = running(compat)?;
    let style = Style::new(words.has(Opt::Numeric));
    let mut text = lines(&config, &style);
    let numeric = lines(&config, &Style::new(true));
    let again = from_lines(numeric.lines()).map(|built| sections(&built)).ok();
    let exact = sections(&config);
    if again.as_ref() != Some(&exact) {
        text.push_str(&format!("{COMMENT}{exact}\n"));
    }
    compat.print(&text)
}

fn running(compat: &Compat<'_>) -> Outcome<Config> {
    let query = ConfigQuery { format: ConfigFormat::Json };
    compat.ask(Request::new(Operation::ConfigGet).query(&query))
}

pub(super) fn clear(compat: &Compat<'_>) -> Outcome {
    let query = ApplyQuery { prune: true, dry_run: false };
    let request = Request::new(Operation::ConfigApply).query(&query);
    apply(
        compat,
        Message::SERVICE_FLUSH,
        request.yaml(json!({ "services": {}, "snat": {} }).to_string()),
    )
}

fn apply(compat: &Compat<'_>, message: Message, request: Request) -> Outcome {
    let answer: Result<Changes, _> = compat.client.send(request);
    answer.map(drop).map_err(|error| super::super::refusal(message, error))
}

pub(super) fn restore(compat: &mut Compat<'_>, text: &str) -> Outcome {
    let mut wanted = from_lines(text.lines())?;
    let comment = text.lines().rev().find_map(|line| line.strip_prefix(COMMENT));
    match comment.map(|comment| exact(comment, &wanted)) {
        Some(Some(exact)) => wanted = exact,
        Some(None) => {
            let note =
                "note: the commands differ from the #dpnat line behind them, which is left out\n";
            compat.complain(note)?;
        }
        None => {}
    }
    let config = running(compat)?;
    if wanted.services.keys().any(|name| config.services.contains_key(name))
        || wanted.snat.keys().any(|name| config.snat.contains_key(name))
    {
        return Err(Failure::Refused(Message::SERVICE_ADD, Code::Exist, None));
    }
    let request = Request::new(Operation::ConfigApply).query(&ApplyQuery::default());
    apply(compat, Message::SERVICE_ADD, request.yaml(sections(&wanted)))
}

/// What the comment says, if the commands say the same as far as they can.
fn exact(comment: &str, built: &Config) -> Option<Config> {
    let exact: Config = serde_json::from_str(comment).ok()?;
    let style = Style::new(true);
    (lines(&exact, &style) == lines(built, &style)).then_some(exact)
}

/// The parts of a configuration that the table is made of.
#[derive(Serialize)]
struct Sections<'a> {
    services: &'a BTreeMap<String, Arc<Service>>,
    server_groups: BTreeMap<&'a String, &'a Arc<ServerGroup>>,
    local_address_pools: BTreeMap<&'a String, &'a Arc<LocalPool>>,
    snat: &'a Ordered<SnatRule>,
}

/// These parts as JSON. Rules of `snat` stay in their order.
fn sections(config: &Config) -> String {
    let groups = config.services.values().filter_map(|service| match &service.servers {
        Servers::Group(name) => Some((name, config.server_groups.get(name)?)),
        Servers::Inline(_) => None,
    });
    let pools = config.services.values().filter_map(|service| match &service.local_pool {
        Some(Pool::Named(name)) => Some((name, config.local_address_pools.get(name)?)),
        _ => None,
    });
    let sections = Sections {
        services: &config.services,
        server_groups: groups.collect(),
        local_address_pools: pools.collect(),
        snat: &config.snat,
    };
    serde_json::to_string(&sections).unwrap_or_default()
}

/// The table as commands, in the order of a list.
fn lines(config: &Config, style: &Style) -> String {
    let mut entries: Vec<(Key, String)> = Vec::new();
    for service in config.services.values() {
        for vip in &service.vips {
            let key = Key::Service(service.protocol, *vip);
            let text = service_lines(config, service, &key, style);
            entries.push((key, text));
        }
    }
    for rule in config.snat.values().filter(|rule| rule.action != SnatAction::Accept) {
        for key in MatchRule::all_of(rule).into_iter().map(Key::Match) {
            let text = rule_lines(rule, &key, style);
            entries.push((key, text));
        }
    }
    entries.sort_by_key(|(key, _)| key.order());
    entries.into_iter().map(|(_, text)| text).collect()
}

fn service_lines(config: &Config, service: &Service, key: &Key, style: &Style) -> String {
    let protocol = service.protocol;
    let show = |endpoint: Endpoint, protocol| style.endpoint(endpoint, protocol);
    let selected = key.saved(show);
    let mut text = format!("-A {selected} -s {}", service.scheduler);
    if let Some(persistence) = &service.persistence {
        text.push_str(&format!(" -p {}", persistence.timeout.as_ms() / 1000));
        let v6 = service.vips.first().is_some_and(|vip| vip.address.is_ipv6());
        match (v6, persistence.prefix_of(v6)) {
            (false, 32) | (true, 128) => {}
            (true, prefix) => text.push_str(&format!(" -M {prefix}")),
            (false, prefix) => text.push_str(&format!(" -M {}", netmask(prefix))),
        }
    }
    if service.one_packet {
        text.push_str(" --ops");
    }
    if let Some(seconds) = conn_timeout(service) {
        text.push_str(&format!(" --conn-timeout {seconds}"));
    }
    if let Some(version) = proxy_name(service) {
        text.push_str(&format!(" --proxy-protocol {version}"));
    }
    text.push('\n');
    let option = Method::of_mode(service.mode).option();
    let mut servers: Vec<&Server> = service.resolved_servers(config).iter().collect();
    servers.sort_by_key(|server| (server.address.address, server.address.l4_port.0));
    for server in servers {
        let address = show(server.address, protocol);
        text.push_str(&format!("-a {selected} -r {address} {option} -w {}", server.weight));
        for (option, limit) in [("-x", server.limits.upper), ("-y", server.limits.lower)] {
            text.extend(limit.map(|limit| format!(" {option} {limit}")));
        }
        text.push('\n');
    }
    if let Some(LocalPool { addresses, dev }) = service.resolved_pool(config) {
        for address in addresses.iter().flat_map(|range| range.addresses()) {
            text.push_str(&format!("--add-laddr {selected} -z {address} -F {dev}\n"));
        }
    }
    text
}

fn rule_lines(rule: &SnatRule, key: &Key, style: &Style) -> String {
    let show = |endpoint: Endpoint, protocol| style.endpoint(endpoint, protocol);
    let selected = key.saved(show);
    let mut text = format!("-A {selected} -s {}\n", rule_scheduler(rule));
    for (address, weight) in of_pool(rule) {
        let server = match address {
            std::net::IpAddr::V4(v4) => format!("{v4}:0"),
            std::net::IpAddr::V6(v6) => format!("[{v6}]:0"),
        };
        text.push_str(&format!("-a {selected} -r {server} -J -w {weight}\n"));
    }
    text
}

/// What commands make of an empty table.
fn from_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Outcome<Config> {
    let mut config = Config::default();
    for (number, line) in (1..).zip(lines) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let done = split(line).and_then(|words| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let words = Words::parse(&words)?;
            super::usage::check(&words)?;
            command(&mut config, &words)
        });
        done.map_err(|failure| at_line(number, failure))?;
    }
    Ok(config)
}

fn at_line(number: u32, failure: Failure) -> Failure {
    match failure {
        Failure::Usage(text, code) => Failure::Usage(format!("line {number}: {text}"), code),
        Failure::NotSupported(what, instead) => {
            Failure::NotSupported(format!("line {number}: {what}"), instead)
        }
        Failure::Refused(message, code, None) => {
            Failure::Refused(message, code, Some(format!("line {number}: {}", code.text())))
        }
        other => other,
    }
}

/// The words of a line; quotes keep blanks.
fn split(line: &str) -> Outcome<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Failure::usage("a quote is open at the end of the line"));
    }
    words.extend(word);
    Ok(words)
}

/// Does to a configuration what a command would do to the daemon.
fn command(config: &mut Config, words: &Words) -> Outcome {
    let key = match words.command {
        Command::Add | Command::AddServer | Command::AddLaddr => Key::needed(words)?,
        other => {
            let text = format!("'{}' does not stand in what is restored", other.name());
            return Err(Failure::usage(text));
        }
    };
    match (words.command, &key) {
        (Command::Add, Key::Service(protocol, vip)) => {
            let settings = Settings::of(words, &key)?;
            let mut service = Service::new(vec![*vip], *protocol);
            settings.set(&mut service);
            let name = key.new_name();
            match config.services.insert(name, Arc::new(service)) {
                Some(_) => Err(Failure::Refused(Message::SERVICE_ADD, Code::Exist, None)),
                None => Ok(()),
            }
        }
        (Command::Add, Key::Match(wanted)) => {
            let settings = Settings::of(words, &key)?;
            let name = key.new_name();
            if config.snat.contains_key(&name) {
                return Err(Failure::Refused(Message::SERVICE_ADD, Code::Exist, None));
            }
            config.snat.put(&name, Arc::new(new_rule(wanted, &settings)));
            Ok(())
        }
        (Command::AddServer, Key::Service(..)) => server(config, words, &key),
        (Command::AddServer, Key::Match(_)) => {
            let message = Message::SERVER_ADD;
            method(words, &key)?;
            let name = key.new_name();
            let rule = config.snat.get(&name).ok_or(none(message))?;
            let mut rule = SnatRule::clone(rule);
            put_wan(&mut rule, &Target::of(words, &key)?, true, message)?;
            config.snat.put(&name, Arc::new(rule));
            Ok(())
        }
        (_, Key::Service(..)) => laddr(config, words, &key),
        (_, Key::Match(_)) => Err(Failure::usage("a match service has no local address")),
    }
}

fn none(message: Message) -> Failure {
    Failure::Refused(message, Code::NotExist, None)
}

fn service_mut<'a>(
    config: &'a mut Config,
    key: &Key,
    message: Message,
) -> Outcome<&'a mut Service> {
    let service = config.services.get_mut(&key.new_name()).ok_or(none(message))?;
    Ok(Arc::make_mut(service))
}

fn server(config: &mut Config, words: &Words, key: &Key) -> Outcome {
    let message = Message::SERVER_ADD;
    let method = method(words, key)?;
    let method = method.ok_or_else(|| {
        Failure::not_supported("direct routing (-g)", super::super::missing::DIRECT)
    })?;
    let target = Target::of(words, key)?;
    let service = service_mut(config, key, message)?;
    let Servers::Inline(servers) = &mut service.servers else { return Ok(()) };
    if servers.iter().any(|server| server.address == target.address) {
        return Err(Failure::Refused(message, Code::Exist, None));
    }
    if !servers.is_empty() && Method::of_mode(service.mode) != method {
        return Err(Failure::not_supported(method.option(), super::super::missing::MODES));
    }
    service.mode = mode_of(Some(method));
    servers.push(Server {
        weight: target.weight,
        limits: target.limits,
        ..Server::new(target.address)
    });
    Ok(())
}

fn laddr(config: &mut Config, words: &Words, key: &Key) -> Outcome {
    let message = Message::LADDR_ADD;
    let lip = plain(words.value(Opt::Laddr).unwrap_or_default(), "local")?;
    let dev = words.value(Opt::Ifname).unwrap_or_default();
    let service = service_mut(config, key, message)?;
    match &mut service.local_pool {
        Some(Pool::Inline(pool)) if pool.dev != dev => {
            let text = format!("the local addresses of this service are on `{}`", pool.dev);
            Err(Failure::Refused(message, Code::Inval, Some(text)))
        }
        Some(Pool::Inline(pool)) if pool.addresses.iter().any(|has| has.contains(lip)) => {
            Err(Failure::Refused(message, Code::Exist, None))
        }
        Some(Pool::Inline(pool)) => {
            pool.addresses.push(lip.into());
            Ok(())
        }
        pool => {
            let new = LocalPool { addresses: vec![lip.into()], dev: dev.to_owned() };
            *pool = Some(Pool::Inline(new));
            Ok(())
        }
    }
}
