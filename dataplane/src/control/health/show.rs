//! What is told of the health of real servers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::health::{Checker, Outcome, Target};
use api::{CheckInfo, ServerHealth, ServerHealthInfo, ServiceHealthInfo};
use config::OnFailure;

use super::Watched;
use crate::control::services::no_service;
use crate::control::{Control, Reply, State};

impl Control {
    /// Services with anything to be checked, each with its real servers; one of them, if it is named.
    ///
    /// # Errors
    /// If there is no service of that name.
    pub async fn server_health(&self, service: Option<&str>) -> Reply<Vec<ServiceHealthInfo>> {
        let state = self.state();
        if let Some(name) = service.filter(|name| !state.is_service(name)) {
            return Err(no_service(name));
        }
        let chosen = state.health.services.iter();
        let chosen =
            chosen.filter(|(name, _)| service.is_none_or(|wanted| wanted == name.as_str()));
        let mut all: Vec<_> =
            chosen.map(|(name, watched)| state.service_health(name, watched)).collect();
        all.sort_by(|a, b| a.service.cmp(&b.service));
        Ok(all)
    }
}

impl State {
    fn is_service(&self, name: &str) -> bool {
        let rule = name.strip_prefix("dnat/");
        self.config.services.contains_key(name)
            || rule.is_some_and(|rule| self.config.dnat.contains_key(rule))
    }

    fn service_health(&self, name: &str, watched: &Watched) -> ServiceHealthInfo {
        let members = watched.members(&self.health.down);
        let up = members.iter().filter(|member| member.down.is_none());
        let (quorum, hysteresis) = watched.quorum;
        let sorry = self.config.services.get(name).and_then(|service| service.sorry_server);
        let server = |checked: &super::Checked| ServerHealthInfo {
            address: checked.server,
            health: health_of(checked.down(&self.health.down), checked.targets.is_empty()),
            checks: checked.targets.iter().map(|target| self.check_info(target)).collect(),
        };
        ServiceHealthInfo {
            service: name.to_owned(),
            quorum,
            hysteresis,
            weight_up: up.map(|member| u32::from(member.weight)).sum(),
            quorum_lost: watched.lost,
            sorry_server: sorry,
            servers: watched.servers.iter().map(server).collect(),
        }
    }

    fn check_info(&self, target: &Arc<Target>) -> CheckInfo {
        let status =
            self.health.checker.as_ref().and_then(|checker: &Arc<Checker>| checker.status(target));
        let ms = |since: Instant| since.elapsed().as_millis() as u64;
        let last = status.as_ref().and_then(|status| status.last.as_ref());
        let asked = target.asked();
        CheckInfo {
            check: target.check.kind,
            asked: match asked.l4_port.0 {
                0 => asked.address.to_string(),
                _ => asked.to_string(),
            },
            dev: target.way.device.clone(),
            source: target.way.source.map(|source: IpAddr| source.to_string()),
            up: !self.health.down.contains(target),
            since_ms: status.as_ref().map(|status| ms(status.since)),
            passed: last.and_then(|(outcome, _)| match outcome {
                Outcome::Passed(_) => Some(true),
                Outcome::Failed(_) => Some(false),
                Outcome::Unknown(_) => None,
            }),
            reason: last.map(|(outcome, _)| outcome.to_string()),
            last_ms: last.map(|(_, at)| ms(*at)),
            checks: status.as_ref().map_or(0, |status| status.checks),
            failures: status.as_ref().map_or(0, |status| status.failures),
            changes: status.as_ref().map_or(0, |status| status.changes),
            held_ms: status.as_ref().and_then(|status| {
                let left = status.held_until?.saturating_duration_since(Instant::now());
                (left > Duration::ZERO).then_some(left.as_millis() as u64)
            }),
        }
    }
}

fn health_of(down: Option<OnFailure>, unchecked: bool) -> ServerHealth {
    match down {
        None if unchecked => ServerHealth::Unchecked,
        None => ServerHealth::Up,
        Some(OnFailure::Inhibit) => ServerHealth::Inhibited,
        Some(OnFailure::Remove) => ServerHealth::Removed,
    }
}
