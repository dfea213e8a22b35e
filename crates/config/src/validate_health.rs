//! What checks of real servers, quorums and sorry servers must hold.

use std::fmt::Display;

use crate::error::Path;
use crate::health::{CheckType, Checks, Health, hex_pattern};
use crate::index::Index;
use crate::schema::ServerGroup;
use crate::service::{Protocol, Server, Service};
use crate::text::Duration;
use crate::validate::Checker;

/// A server has at most this many checks.
const CHECKS_MAX: usize = 16;
/// The shortest interval: a server is to serve, not to be checked.
const INTERVAL_MIN: Duration = Duration::from_ms(100);
/// The longest interval or timeout.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// The longest datagram to send or to compare, in octets: one packet of any link.
const DATAGRAM_MAX: usize = 1_200;
/// The largest program that a regular expression is compiled to, in bytes.
const REGEX_MAX: usize = 1 << 20;

impl Checker<'_> {
    /// A group of real servers.
    pub fn group(&mut self, name: &str, group: &ServerGroup) {
        let path = Path::of("server_groups").key(name);
        self.servers(&path.key("servers"), &group.servers);
        self.checks(&path.key("health"), group.health.as_ref());
    }

    /// Checks, quorum and sorry server of a service.
    pub fn service_health(&mut self, path: &Path, service: &Service, index: &Index) {
        self.checks(&path.key("health"), service.health.as_ref());
        if let Some(source) = service.check_source {
            let path = path.key("check_source");
            if self.unicast(&path, source) && (index.is_vip(source) || index.lip(source).is_some())
            {
                let message = format!("{source} is a VIP or LIP: no answer to a check gets there");
                self.invalid(path, source, message);
            }
        }
        if let Some(quorum) = &service.quorum {
            let path = path.key("quorum");
            if quorum.weight == 0 {
                let message = "0 is always there; leave `quorum` out";
                self.invalid(path.key("weight"), 0, message);
            } else if quorum.hysteresis >= quorum.weight {
                let message = format!("it must be less than the weight, {}", quorum.weight);
                self.invalid(path.key("hysteresis"), quorum.hysteresis, message);
            }
        }
        if let Some(sorry) = service.sorry_server {
            self.endpoint(&path.key("sorry_server"), sorry);
        }
        self.enough(path, service, service.resolved_servers(self.config));
        self.without_header(path, service);
    }

    /// Checks send no header of the PROXY protocol: who expects one does not answer them.
    fn without_header(&mut self, path: &Path, service: &Service) {
        if !service.client_address().is_proxy() {
            return;
        }
        let expects = |check: &Health| match (service.protocol, check.kind) {
            (Protocol::Tcp, CheckType::Http | CheckType::Https)
            | (Protocol::Udp, CheckType::Dns) => true,
            (Protocol::Udp, CheckType::Udp) => check.reply.is_some(),
            _ => false,
        };
        let config = self.config;
        let failing = service.resolved_servers(config).iter().find_map(|server| {
            let mut checks = service.checks_of(server, config).iter();
            Some((server, checks.find(|check| check.port.is_none() && expects(check))?))
        });
        if let Some((server, check)) = failing {
            let message = format!(
                "check `{}` of {} sends no PROXY protocol header, and fails if a server expects one there: give it a `port` without",
                check.kind, server.address
            );
            self.warn(&path.key("client_address"), message);
        }
    }

    /// What a service asks of its real servers together.
    pub fn enough(&mut self, path: &Path, service: &Service, servers: &[Server]) {
        if let Some(sorry) = service.sorry_server
            && servers.iter().any(|server| server.address == sorry)
        {
            let message = format!("{sorry} is a real server of the service already");
            self.conflict(path.key("sorry_server"), sorry, message);
        }
        let all: u32 = servers.iter().map(|server| u32::from(server.weight)).sum();
        if let Some(quorum) = service.quorum.as_ref().filter(|quorum| quorum.weight > all)
            && !servers.is_empty()
        {
            let message =
                format!("{} is more than all servers weigh together, {all}", quorum.weight);
            self.invalid(path.key("quorum").key("weight"), quorum.weight, message);
        }
    }

    /// The checks of a server, service or group.
    pub fn checks(&mut self, path: &Path, checks: Option<&Checks>) {
        let Some(checks) = checks else { return };
        if checks.len() > CHECKS_MAX {
            let message = format!("{} checks are more than {CHECKS_MAX}", checks.len());
            self.invalid(path.clone(), checks.len(), message);
        }
        for (position, check) in checks.iter().enumerate() {
            let path = if checks.len() == 1 { path.clone() } else { path.index(position) };
            self.times(&path, check);
            self.target(&path, check);
            self.options_of_type(&path, check);
            self.values(&path, check);
        }
    }

    fn times(&mut self, path: &Path, check: &Health) {
        self.within(path.key("interval"), check.interval, INTERVAL_MIN, INTERVAL_MAX);
        self.within(path.key("timeout"), check.timeout, Duration::from_ms(1), INTERVAL_MAX);
        if check.timeout > check.interval {
            let (timeout, interval) = (check.timeout, check.interval);
            let message = format!(
                "a check may take {timeout}, longer than the interval of {interval}: the next one waits for it"
            );
            self.warn(&path.key("timeout"), message);
        }
        self.within(path.key("retries"), check.retries, 0, 100);
        self.within(path.key("retry_delay"), check.retry_delay, Duration::ZERO, INTERVAL_MAX);
        self.within(path.key("rise"), check.rise, 1, 1_000);
        self.within(path.key("fall"), check.fall, 1, 1_000);
        if let Some(damping) = check.flap_damping {
            let path = path.key("flap_damping");
            self.timeout(path.key("hold"), damping.hold);
            self.timeout(path.key("max"), damping.max);
            if damping.max < damping.hold {
                let message = format!("{} is less than `hold`, {}", damping.max, damping.hold);
                self.invalid(path.key("max"), damping.max, message);
            }
        }
    }

    fn target(&mut self, path: &Path, check: &Health) {
        if check.port == Some(0) {
            let message = "port 0 is not one that can be asked; leave it out for the server's own";
            self.invalid(path.key("port"), 0, message);
        }
        if let Some(address) = check.address {
            self.unicast(&path.key("address"), address);
        }
    }

    /// Refuses what another type of check has.
    fn options_of_type(&mut self, path: &Path, check: &Health) {
        use CheckType::{Dns, Http, Https, Icmp, Script, Udp};
        let web: &[CheckType] = &[Http, Https];
        let given: [(&str, bool, &[CheckType]); 12] = [
            ("path", check.path.is_some(), web),
            ("host", check.host.is_some(), web),
            ("status", !check.status.is_empty(), web),
            ("digest", check.digest.is_some(), web),
            ("body", check.body.is_some(), web),
            ("body_not", check.body_not.is_some(), web),
            ("send", check.send.is_some(), &[Udp]),
            ("reply", check.reply.is_some(), &[Udp]),
            ("name", check.name.is_some(), &[Dns]),
            ("record", check.record.is_some(), &[Dns]),
            ("command", !check.command.is_empty(), &[Script]),
            ("user", check.user.is_some(), &[Script]),
        ];
        for (key, _, types) in
            given.iter().filter(|(_, given, of)| *given && !of.contains(&check.kind))
        {
            let of: Vec<_> = types.iter().map(ToString::to_string).collect();
            let message = format!("`{key}` is of checks of type {}", of.join(" and "));
            self.invalid(path.key(key), check.kind, message);
        }
        if check.port.is_some() && matches!(check.kind, Icmp | Script) {
            let message = format!("a check of type {} asks no port", check.kind);
            self.invalid(path.key("port"), check.kind, message);
        }
        if check.kind == Script && check.command.is_empty() {
            let message = "a check of type script needs `command: [ /PATH, ARGUMENT… ]`";
            self.invalid(path.key("command"), "[]", message);
        }
    }

    fn values(&mut self, path: &Path, check: &Health) {
        if let Some(page) = &check.path
            && (!page.starts_with('/') || !page.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let message = format!("`{page}` is not the path of a page, as `/health` is");
            self.invalid(path.key("path"), page, message);
        }
        if let Some(host) = &check.host
            && (host.is_empty()
                || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)))
        {
            self.invalid(path.key("host"), host, format!("`{host}` is not the name of a host"));
        }
        for range in check.status.iter().filter(|range| range.first() < 100 || range.last() > 599) {
            self.invalid(path.key("status"), range, format!("{range} is not from 100 to 599"));
        }
        if let Some(digest) = &check.digest
            && (digest.len() != 32 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            let message = format!("`{digest}` is not an MD5 digest, 32 hexadecimal digits");
            self.invalid(path.key("digest"), digest, message);
        }
        for (key, text) in [("body", &check.body), ("body_not", &check.body_not)] {
            let Some(text) = text else { continue };
            let mut builder = regex::bytes::RegexBuilder::new(text);
            if let Err(error) = builder.size_limit(REGEX_MAX).build() {
                self.invalid(path.key(key), text, one_line(&error));
            }
        }
        self.datagram(path.key("send"), check.send.as_deref(), false);
        let reply = check.reply.as_deref().filter(|reply| *reply != "any");
        self.datagram(path.key("reply"), reply, true);
        if let Some(name) = &check.name {
            self.domain(path.key("name"), name);
        }
        self.program(path, check);
    }

    fn datagram(&mut self, path: Path, text: Option<&str>, pattern: bool) {
        let Some(text) = text else { return };
        match hex_pattern(text, pattern) {
            None => {
                let also = if pattern { ", `x` for any digit, or `any`" } else { "" };
                let message = format!("`{text}` is not an even number of hexadecimal digits{also}");
                self.invalid(path, text, message);
            }
            Some(octets) if octets.len() > DATAGRAM_MAX => {
                let message = format!("{} octets are more than {DATAGRAM_MAX}", octets.len());
                self.invalid(path, octets.len(), message);
            }
            Some(_) => {}
        }
    }

    /// RFC 1035 §2.3.4: labels of 63 octets, names of 255 with the lengths of their labels.
    fn domain(&mut self, path: Path, name: &str) {
        let whole = name.strip_suffix('.').unwrap_or(name);
        let labels = || whole.split('.');
        let fits = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic())
        };
        if !(name == "." || whole.len() <= 253 && labels().all(fits)) {
            self.invalid(path, name, format!("`{name}` is not a domain name"));
        }
    }

    fn program(&mut self, path: &Path, check: &Health) {
        let Some(program) = check.command.first() else { return };
        let path_of = path.key("command");
        if !program.starts_with('/') {
            let message =
                format!("`{program}` is not the full path of a program, as `/usr/bin/true` is");
            self.invalid(path_of.index(0), program, message);
        }
        if let Some(at) = check.command.iter().position(|word| word.contains('\0')) {
            self.invalid(path_of.index(at), "", "an argument cannot have a NUL");
        }
        if let Some(user) = &check.user
            && (user.is_empty() || user.contains([':', '\n', '/']))
        {
            self.invalid(path.key("user"), user, format!("`{user}` cannot be the name of a user"));
        }
    }
}

/// The last line that is not empty: those before it are the pattern and a mark under it.
fn one_line(error: &impl Display) -> String {
    let text = error.to_string();
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.unwrap_or_default().trim_start_matches("error: ").to_owned()
}
