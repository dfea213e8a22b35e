//! keepalived's checks of real servers.

use super::output::quoted;
use super::tree::Node;
use super::{ImportError, Remarks};
use crate::text::Duration;

/// Checks of real servers.
pub(super) const CHECKS: [&str; 10] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "UDP_CHECK",
    "DNS_CHECK",
    "PING_CHECK",
    "MISC_CHECK",
    "SMTP_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
];

/// Keys of checks that nothing here needs.
const NOT_NEEDED: [(&str, &str); 7] = [
    ("warmup", "checks are spread over their interval"),
    ("log_all_failures", "`dpctl health show` has the last reason"),
    ("fast_recovery", "each page is a check of its own"),
    ("enable_sni", "the name of a host is always sent"),
    ("http_protocol", "it is HTTP/1.1, closed after the page"),
    ("regex_stack", "matching takes no stack"),
    ("bind_if", "checks leave by the KNI of the interface"),
];

/// What a virtual or real server says of all checks in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    interval: Option<Duration>,
    retry_delay: Option<Duration>,
    timeout: Option<Duration>,
    retries: Option<u16>,
    inhibit: bool,
    alpha: bool,
    host: Option<String>,
}

impl Defaults {
    /// Takes a key, if it is one of these.
    ///
    /// # Errors
    /// If its value is none.
    pub fn take(&mut self, node: &Node) -> Result<bool, ImportError> {
        match node.name() {
            "delay_loop" => self.interval = Some(seconds(node)?),
            "delay_before_retry" => self.retry_delay = Some(seconds(node)?),
            "connect_timeout" => self.timeout = Some(seconds(node)?),
            "retry" | "nb_get_retry" | "nb_sock_retry" => {
                self.retries = Some(node.parsed("a number of checks")?);
            }
            "inhibit_on_failure" => self.inhibit = is_on(node),
            "alpha" => self.alpha = is_on(node),
            "virtualhost" => self.host = Some(node.needed("the name of a host")?.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn is_on(node: &Node) -> bool {
    !matches!(node.value(), Some("off" | "false" | "no"))
}

/// Seconds, with a fraction if need be.
fn seconds(node: &Node) -> Result<Duration, ImportError> {
    let seconds: f64 = node.parsed("a number of seconds")?;
    if !(0.0..=1e6).contains(&seconds) {
        return Err(
            node.wrong(format!("`{} {seconds}`: expected a number of seconds", node.name()))
        );
    }
    Ok(Duration::from_ms((seconds * 1_000.0).round() as u64))
}

/// The address that a check comes from, if it says.
pub(super) fn source(check: &Node) -> Option<&Node> {
    check.child("bindto")
}

/// What a check becomes: one or several of ours, as text; none if it has no counterpart, which is told.
///
/// # Errors
/// If something in it cannot be read.
pub(super) fn import(
    check: &Node,
    defaults: &Defaults,
    port: u16,
    remarks: &mut Remarks,
) -> Result<Vec<String>, ImportError> {
    match check.name() {
        "SMTP_CHECK" => {
            remarks.warn(&check.place, "SMTP_CHECK: it connects, and nothing is said");
        }
        name @ ("BFD_CHECK" | "FILE_CHECK") => {
            remarks.warn(&check.place, format!("{name}: it has no counterpart"));
            return Ok(Vec::new());
        }
        _ => {}
    }
    let mut own = defaults.clone();
    let mut fields = Fields::default();
    let mut pages = Vec::new();
    for child in check.children() {
        if !own.take(child)? {
            key(check, child, port, &mut fields, &mut pages, remarks)?;
        }
    }
    let (kind, retries, retry_delay) = match check.name() {
        "HTTP_GET" => ("http", 1, Duration::from_secs(3)),
        "SSL_GET" => ("https", 1, Duration::from_secs(3)),
        "UDP_CHECK" => ("udp", 1, Duration::from_secs(1)),
        "PING_CHECK" => ("icmp", 1, Duration::from_secs(1)),
        "DNS_CHECK" => ("dns", 3, own.interval.unwrap_or(Duration::from_secs(60))),
        "MISC_CHECK" => ("script", 0, Duration::from_secs(1)),
        _ => ("tcp", 1, Duration::from_secs(1)),
    };
    if kind == "script" && fields.command.is_empty() {
        return Err(check.wrong("`MISC_CHECK` needs `misc_path PROGRAM`"));
    }
    let head = own.head(kind, (retries, retry_delay), &fields);
    if !matches!(kind, "http" | "https") {
        return Ok(vec![format!("{{ {} }}", [head, fields.rest].concat().join(", "))]);
    }
    if pages.is_empty() {
        return Err(check.wrong(format!("`{}` needs `url {{ path … }}`", check.name())));
    }
    let page = |page: &&Node| -> Result<String, ImportError> {
        let rest = of_page(page, own.host.as_deref(), remarks)?;
        Ok(format!("{{ {} }}", [head.clone(), fields.rest.clone(), rest].concat().join(", ")))
    };
    pages.iter().map(page).collect()
}

/// What a check says besides what all of them do.
#[derive(Debug, Default)]
struct Fields {
    rest: Vec<String>,
    command: Vec<String>,
    /// Of a script.
    timeout: Option<Duration>,
}

impl Defaults {
    /// Type and times.
    fn head(&self, kind: &str, (retries, delay): (u16, Duration), fields: &Fields) -> Vec<String> {
        let interval = self.interval.unwrap_or(Duration::from_secs(60));
        let timeout = match kind {
            "script" => fields.timeout.unwrap_or(interval),
            _ => self.timeout.unwrap_or(Duration::from_secs(5)),
        };
        let retries = self.retries.unwrap_or(retries);
        let mut head = vec![format!("type: {kind}")];
        head.push(format!("interval: {interval}"));
        head.push(format!("timeout: {timeout}"));
        head.push("fall: 1".to_owned());
        if retries > 0 {
            head.push(format!("retries: {retries}"));
            head.push(format!("retry_delay: {}", self.retry_delay.unwrap_or(delay)));
        }
        if self.alpha {
            head.push("initial: down".to_owned());
        }
        let on_failure = if self.inhibit { "inhibit" } else { "remove" };
        head.push(format!("on_failure: {on_failure}"));
        head
    }
}

/// A key within a check.
fn key<'n>(
    check: &Node,
    node: &'n Node,
    port: u16,
    fields: &mut Fields,
    pages: &mut Vec<&'n Node>,
    remarks: &mut Remarks,
) -> Result<(), ImportError> {
    let rest = &mut fields.rest;
    match (check.name(), node.name()) {
        // It is the service's.
        (_, "bindto") => {}
        (_, "connect_port") => {
            let asked: u16 = node.parsed("a port from 1 to 65535")?;
            if asked != port {
                rest.push(format!("port: {asked}"));
            }
        }
        (_, "connect_ip") => {
            let address: std::net::IpAddr = node.parsed("an address")?;
            rest.push(format!("address: \"{address}\""));
        }
        ("HTTP_GET" | "SSL_GET", "url") => pages.push(node),
        ("UDP_CHECK", "payload") => rest.push(format!("send: \"{}\"", hexadecimal(node)?)),
        ("UDP_CHECK", "require_reply") => match node.words.len() {
            1 => rest.push("reply: any".to_owned()),
            _ => rest.push(format!("reply: \"{}\"", hexadecimal(node)?)),
        },
        ("DNS_CHECK", "type") => {
            let record = node.needed("a type of record")?.to_ascii_uppercase();
            if !["A", "AAAA", "NS", "CNAME", "SOA", "MX", "TXT"].contains(&record.as_str()) {
                let expected = "expected A, AAAA, NS, CNAME, SOA, MX or TXT";
                return Err(node.wrong(format!("`type {record}`: {expected}")));
            }
            rest.push(format!("record: {record}"));
        }
        ("DNS_CHECK", "name") => rest.push(format!("name: {}", quoted(node.needed("a name")?))),
        ("MISC_CHECK", "misc_path") => command(node, fields)?,
        ("MISC_CHECK", "misc_timeout") => fields.timeout = Some(seconds(node)?),
        ("MISC_CHECK", "user") => rest.push(format!("user: {}", quoted(node.needed("a user")?))),
        ("MISC_CHECK", "misc_dynamic") => {
            remarks
                .warn(&node.place, "misc_dynamic: an exit status sets no weight; only 0 is well");
        }
        (_, name) => match NOT_NEEDED.iter().find(|(known, _)| *known == name) {
            Some((_, why)) => remarks.not_needed(&node.place, format!("{name}: {why}")),
            None => remarks.warn(&node.place, format!("{name}: it has no counterpart")),
        },
    }
    Ok(())
}

/// A program with its arguments, split at blanks outside of single quotes.
fn command(node: &Node, fields: &mut Fields) -> Result<(), ImportError> {
    let line = node.words.get(1..).unwrap_or_default().join(" ");
    let mut words = Vec::new();
    for (part, text) in line.split('\'').enumerate() {
        match part % 2 {
            0 => words.extend(text.split_whitespace().map(str::to_owned)),
            _ => words.push(text.to_owned()),
        }
    }
    if words.first().is_none_or(|program| !program.starts_with('/')) {
        return Err(node.wrong(format!("`misc_path {line}`: expected the full path of a program")));
    }
    let list: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    fields.rest.push(format!("command: [ {} ]", list.join(", ")));
    fields.command = words;
    Ok(())
}

/// Digits of keepalived's free form: blanks end an octet.
fn hexadecimal(node: &Node) -> Result<String, ImportError> {
    let mut text = String::new();
    for word in node.words.get(1..).unwrap_or_default() {
        let fits = |c: char| c.is_ascii_hexdigit() || matches!(c, 'x' | 'X');
        if !word.chars().all(fits) {
            return Err(
                node.wrong(format!("`{} {word}`: expected hexadecimal digits", node.name()))
            );
        }
        let (whole, last) = word.split_at(word.len() / 2 * 2);
        text.push_str(whole);
        if !last.is_empty() {
            text.push('0');
            text.push_str(last);
        }
    }
    Ok(text)
}

/// A page and what is expected of it.
fn of_page(
    page: &Node,
    host: Option<&str>,
    remarks: &mut Remarks,
) -> Result<Vec<String>, ImportError> {
    let (mut fields, mut host) = (Vec::new(), host.map(str::to_owned));
    let (mut regex, mut negated, mut flags) = (None, false, String::new());
    for node in page.children() {
        match node.name() {
            "path" => fields.push(format!("path: {}", quoted(node.needed("a path")?))),
            "digest" => fields.push(format!("digest: \"{}\"", node.needed("a digest")?)),
            "status_code" => {
                let codes = node.words.get(1..).unwrap_or_default();
                let codes: Vec<String> = codes.iter().map(|code| format!("\"{code}\"")).collect();
                fields.push(format!("status: [ {} ]", codes.join(", ")));
            }
            "virtualhost" => host = Some(node.needed("the name of a host")?.to_owned()),
            "regex" => regex = Some((node, node.words.get(1..).unwrap_or_default().join(" "))),
            "regex_no_match" => negated = true,
            "regex_options" => {
                for option in node.words.get(1..).unwrap_or_default() {
                    match option.as_str() {
                        "caseless" => flags.push('i'),
                        "multiline" => flags.push('m'),
                        "dotall" => flags.push('s'),
                        "extended" => flags.push('x'),
                        "ungreedy" => flags.push('U'),
                        "utf" | "ucp" => {}
                        other => {
                            let message = format!("regex_options {other}: it has no counterpart");
                            remarks.warn(&node.place, message);
                        }
                    }
                }
            }
            name => match NOT_NEEDED.iter().find(|(known, _)| *known == name) {
                Some((_, why)) => remarks.not_needed(&node.place, format!("{name}: {why}")),
                None => remarks.warn(&node.place, format!("{name}: it has no counterpart")),
            },
        }
    }
    fields.extend(host.map(|host| format!("host: {}", quoted(&host))));
    if let Some((node, mut pattern)) = regex {
        if !flags.is_empty() {
            pattern.insert_str(0, &format!("(?{flags})"));
        }
        if regex::bytes::Regex::new(&pattern).is_err() {
            let message = format!(
                "`regex {pattern}`: expected a regular expression without back references and \
                 without looking around"
            );
            return Err(node.wrong(message));
        }
        let key = if negated { "body_not" } else { "body" };
        fields.push(format!("{key}: {}", quoted(&pattern)));
    }
    Ok(fields)
}
