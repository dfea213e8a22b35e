//! What a change builds, what it shares, and what a refusal leaves.

use std::collections::HashMap;

use config::{Server, Service};
use types::{Address as _, EthPortId};

mod gateway;

use super::*;
use crate::control::fake::{LAN, SHOP, WAN, facts, model};

struct Bench {
    compiler: Compiler,
    now: Now,
}

impl Bench {
    fn new(text: &str) -> Self {
        let model = model(text);
        let next_hops = fib::NextHopsWriter::new(16, [0; 2]).shared();
        let compiler = Compiler::new(&model, facts(&model), next_hops).unwrap();
        let mut bench = Self { compiler, now: Now::from_ms(1000) };
        bench.apply(model).unwrap();
        bench
    }

    fn request(&self, config: Arc<Model>) -> Request {
        let before = self.compiler.snapshot();
        let started = Arc::clone(self.compiler.started());
        let (kernel, policy) = (Arc::clone(&before.kernel), before.policy);
        let rulings = Arc::clone(self.compiler.rulings());
        Request { config, started, kernel, policy, rulings, renew_fib: false, now: self.now }
    }

    /// The kernel holds these addresses from now on.
    fn kernel(&mut self, addresses: &[(EthPortId, u32)]) {
        let mut request = self.request(Arc::clone(self.compiler.config()));
        request.kernel = Arc::new(KernelSide::new(addresses.iter().copied(), []));
        let plan = self.compiler.plan(request).unwrap();
        self.compiler.commit(plan);
    }

    /// What it changes, once it is committed.
    fn apply(&mut self, config: Arc<Model>) -> Result<(Plan, Gone), ConfigError> {
        let request = self.request(config);
        let plan = self.compiler.plan(request.clone())?;
        self.compiler.abandon(plan);
        let plan = self.compiler.plan(request)?;
        let shown = self.compiler.snapshot.clone();
        let copy = Plan {
            config: plan.config.clone(),
            snapshot: plan.snapshot.clone(),
            timeouts: plan.timeouts.clone(),
            fib_changed: plan.fib_changed,
            gone: Gone::default(),
            warnings: plan.warnings.clone(),
            cells: plan.cells.clone(),
            service_chunks: plan.service_chunks.clone(),
            server_chunks: plan.server_chunks.clone(),
            fib_plan: None,
            started: plan.started.clone(),
            classes: plan.classes.clone(),
            services: plan.services.clone(),
            gateway: plan.gateway.clone(),
            wide: plan.wide,
            rulings: plan.rulings.clone(),
            sizes: plan.sizes,
            taken: Taken::default(),
        };
        assert_eq!(plan.snapshot.generation, shown.generation + 1);
        let gone = self.compiler.commit(plan);
        Ok((copy, gone))
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Model)) -> (Plan, Gone) {
        let mut model = Model::clone(self.compiler.config());
        edit(&mut model);
        self.apply(Arc::new(model)).unwrap()
    }

    fn service(&self, l4_port: u16) -> Arc<balance::Service> {
        self.at("203.0.113.10", l4_port).unwrap()
    }

    fn at(&self, vip: &str, l4_port: u16) -> Option<Arc<balance::Service>> {
        let address = vip.parse().unwrap();
        let key = ServiceKey { zone: 0, proto: types::Proto::Tcp, address, l4_port };
        self.compiler.snapshot().services.find(key).cloned()
    }
}

fn server(text: &str) -> Server {
    Server::new(text.parse().unwrap())
}

fn slots(service: &balance::Service) -> HashMap<String, Slot> {
    let slot = |s: &balance::Server| (s.endpoint().to_string(), s.slot);
    service.servers().iter().map(slot).collect()
}

#[test]
fn a_route_to_the_subnet_of_an_address_may_be_configured_too() {
    let with = |route: &str| SHOP.replace("routes:\n", &format!("routes:\n  - {route}\n"));
    let mut bench = Bench::new(SHOP);
    bench.apply(model(&with("{ to: 198.18.0.0/24, dev: lan0 }"))).unwrap();
    // By another interface, it is another route.
    let other = bench.apply(model(&with("{ to: 198.18.0.0/24, dev: wan0 }")));
    assert!(other.err().unwrap().message.contains("two routes to 198.18.0.0/24"));
}

#[test]
fn a_server_more_touches_its_service_and_nothing_else() {
    let mut bench = Bench::new(SHOP);
    let (before, shop, tls) =
        (bench.compiler.snapshot().clone(), bench.service(80), bench.service(443));
    let (plan, gone) = bench.edit(|model| {
        model.add_server("shop", server("198.18.0.123:80")).unwrap();
    });
    let after = bench.compiler.snapshot();
    assert!(Arc::ptr_eq(&before.fib, &after.fib) && !plan.fib_changed);
    assert!(Arc::ptr_eq(&before.interfaces, &after.interfaces));
    assert!(Arc::ptr_eq(&before.steering, &after.steering));
    assert!(Arc::ptr_eq(&tls, &bench.service(443)));
    let now = bench.service(80);
    assert!(!Arc::ptr_eq(&shop, &now));
    assert!(Arc::ptr_eq(&shop.spec().lips, &now.spec().lips));
    assert!(Arc::ptr_eq(&shop.spec().quota, &now.spec().quota));
    assert_eq!(now.spec().slot, shop.spec().slot);
    let (old, new) = (slots(&shop), slots(&now));
    assert!(old.iter().all(|(server, slot)| new[server] == *slot));
    assert_eq!(new.len(), 3);
    assert!(gone.services.is_empty() && gone.servers.is_empty());
    assert!(plan.cells.is_empty(), "the cells that there are will do");
    assert!(plan.timeouts.is_empty());
}

#[test]
fn among_many_services_only_one_is_compiled() {
    let mut text = SHOP.to_owned();
    for number in 0..3000 {
        text.push_str(&format!(
            "  s{number}: {{ vips: [ \"203.0.113.10:{}\" ], protocol: tcp, local_pool: lan, \
             servers: [ {{ address: \"198.18.0.121:{}\" }} ] }}\n",
            2000 + number,
            2000 + number
        ));
    }
    let mut bench = Bench::new(&text);
    let before = bench.compiler.snapshot().clone();
    let (plan, _) = bench.edit(|model| {
        model.add_server("s7", server("198.18.0.122:2007")).unwrap();
    });
    assert_eq!(plan.services.len(), 1);
    let same = before.services.iter().filter(|(key, service)| {
        let now = bench.compiler.snapshot().services.find(*key);
        now.is_some_and(|now| Arc::ptr_eq(now, service))
    });
    assert_eq!(same.count(), 3001);
    assert!(plan.service_chunks.is_empty(), "room enough");
}

#[test]
fn a_weight_changes_and_the_slot_stays_and_an_address_changes_it() {
    let mut bench = Bench::new(SHOP);
    let old = slots(&bench.service(80));
    bench.edit(|model| {
        let changed = Server { weight: 0, ..server("198.18.0.121:80") };
        model.set_server("shop", changed).unwrap();
    });
    assert_eq!(slots(&bench.service(80)), old);
    assert_eq!(bench.service(80).usable().len(), 1);
    let (_, gone) = bench.edit(|model| {
        model.delete_server("shop", "198.18.0.121:80".parse().unwrap()).unwrap();
        model.add_server("shop", server("198.18.0.121:81")).unwrap();
    });
    let leaving: Vec<_> = gone.servers.iter().map(|gone| gone.slot).collect();
    assert_eq!(leaving, [old["198.18.0.121:80"]]);
    let new = slots(&bench.service(80));
    assert!(!old.values().any(|slot| *slot == new["198.18.0.121:81"]));
    assert_eq!(new["198.18.0.122:80"], old["198.18.0.122:80"]);
}

#[test]
fn slots_come_back_with_another_generation_once_given_back() {
    let mut bench = Bench::new(SHOP);
    let (shop, servers) = (bench.service(80).spec().slot, slots(&bench.service(80)));
    let (_, gone) = bench.edit(|model| {
        model.delete_service("shop").unwrap();
    });
    assert!(bench.at("203.0.113.10", 80).is_none());
    assert_eq!(gone.services, [shop]);
    assert_eq!(gone.servers.len(), 2);
    let config = model(SHOP);
    bench.apply(Arc::clone(&config)).unwrap();
    let second = bench.service(80).spec().slot;
    assert_ne!(second.index(), shop.index(), "not before it is free");
    let (_, gone) = bench.edit(|model| {
        model.delete_service("shop").unwrap();
    });
    let all: Vec<_> = servers.into_values().chain(gone.servers.iter().map(|s| s.slot)).collect();
    let places = bench.compiler.service_slots.high_water();
    bench.compiler.give_back(&[shop, second], &all);
    bench.apply(config).unwrap();
    let third = bench.service(80).spec().slot;
    assert!(![shop, second].contains(&third));
    assert_eq!(bench.compiler.service_slots.high_water(), places, "a place that there was");
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let mut bench = Bench::new(SHOP);
    let before = bench.compiler.snapshot().clone();
    let used =
        (bench.compiler.service_slots.high_water(), bench.compiler.server_slots.high_water());
    let text = SHOP
        .replace("  wan0: {", "  new0: { device: \"net_null2\" }\n  wan0: {")
        .replace("routes:", "  - { address: 192.0.2.1/24, dev: new0 }\nroutes:");
    let more = "  a: { vips: [ \"203.0.113.10:81\" ], protocol: tcp, servers: [ { address: \"198.18.0.9:1\" } ] }";
    let text = format!("{text}{more}\n");
    let error = bench.apply(model(&text)).unwrap_err();
    assert_eq!(error.message, "the interface `new0` has not been started");
    assert_eq!(error.path.to_string(), "addresses[3].dev");
    assert!(Arc::ptr_eq(&before, bench.compiler.snapshot()));
    let mut free = bench.request(model(SHOP));
    free.renew_fib = true;
    let plan = bench.compiler.plan(free).unwrap();
    assert!(plan.taken.services.is_empty());
    let new = bench.compiler.service_slots.take().unwrap();
    assert!(new.index() <= used.0, "what was taken was given back");
}

#[test]
fn a_vip_goes_from_one_service_to_another_in_one_change() {
    let mut bench = Bench::new(SHOP);
    let text = SHOP.replace("203.0.113.10:443", "203.0.113.10:8443");
    let text = text.replace("\"203.0.113.10:80\"", "\"203.0.113.10:443\"");
    let (plan, gone) = bench.apply(model(&text)).unwrap();
    assert_eq!(bench.service(443).spec().name.as_ref(), "shop");
    assert_eq!(bench.service(8443).spec().name.as_ref(), "shop-tls");
    assert!(bench.at("203.0.113.10", 80).is_none());
    assert!(gone.services.is_empty());
    assert!(!plan.fib_changed, "the address is the same");
}

#[test]
fn addresses_have_their_roles() {
    let mut bench = Bench::new(SHOP);
    let role = |bench: &Bench, address: &str| {
        let address = address.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        bench.compiler.snapshot().fib.owner(address).map(|owner| (owner.role, owner.iface))
    };
    assert_eq!(role(&bench, "203.0.113.2"), Some((fib::Role::Local, WAN)));
    assert_eq!(role(&bench, "203.0.113.10"), Some((fib::Role::Vip, WAN)));
    assert_eq!(role(&bench, "198.18.0.13"), Some((fib::Role::Lip, LAN)));
    assert_eq!(role(&bench, "198.18.0.14"), None);
    let generation = bench.compiler.snapshot().fib.generation();
    let (plan, _) = bench.edit(|model| {
        let vip = "203.0.113.99:80".parse().unwrap();
        model.add_service("other", Service::new(vec![vip], config::Protocol::Tcp)).unwrap();
    });
    assert!(!plan.fib_changed, "it is on no interface");
    assert_eq!(role(&bench, "203.0.113.99"), None);
    assert_eq!(plan.cells.len(), 1);
    let (plan, _) = bench.edit(|model| {
        let address = "203.0.113.99/32".parse().unwrap();
        let active = config::Active::Always;
        model.add_address(config::Address { address, dev: "wan0".into(), active }).unwrap();
    });
    assert!(plan.fib_changed);
    assert_eq!(role(&bench, "203.0.113.99"), Some((fib::Role::Vip, WAN)));
    assert_eq!(bench.compiler.snapshot().fib.generation(), generation + 1);
}

#[test]
fn timeouts_of_its_own_are_a_class_of_its_own() {
    let mut bench = Bench::new(SHOP);
    assert_eq!(bench.service(80).spec().timeout_class, 0);
    let text = SHOP.replace("    scheduler: rr\n", "    timeouts: { tcp_established: 5s }\n");
    let (plan, _) = bench.apply(model(&text)).unwrap();
    let class = bench.service(80).spec().timeout_class;
    assert_eq!(class, 1);
    assert_eq!(plan.timeouts.len(), 1);
    assert_eq!(plan.timeouts[0].1.tcp_established_ms, 5000);
    let text =
        text.replace("max_connections: 1000", "max_connections: 1000, timeouts: { tcp_syn: 7s }");
    let (plan, _) = bench.apply(model(&text)).unwrap();
    assert_eq!(plan.timeouts[0], (0, timeout_set(&model(&text).conntrack.timeouts)));
    assert_ne!(bench.service(80).spec().timeout_class, class, "open conns keep theirs");
    assert_eq!(bench.service(443).spec().timeout_class, 0);
}

#[test]
fn only_a_server_that_comes_to_a_running_service_starts_slowly() {
    let text = SHOP.replace("    scheduler: rr\n", "    slow_start: 10s\n");
    let mut bench = Bench::new(&text);
    assert!(bench.service(80).servers().iter().all(|server| server.slow_start.is_none()));
    bench.now = Now::from_ms(5000);
    bench.edit(|model| {
        model.add_server("shop", server("198.18.0.123:80")).unwrap();
    });
    let starts = |bench: &Bench| -> Vec<Option<u32>> {
        let service = bench.service(80);
        let servers = service.servers().iter();
        servers.map(|server| server.slow_start.map(|start| start.from_tick_ms)).collect()
    };
    assert_eq!(starts(&bench), [None, None, Some(5000)]);
    bench.now = Now::from_ms(6000);
    bench.edit(|model| {
        let drained = Server { admin: config::Admin::Drain, ..server("198.18.0.121:80") };
        model.set_server("shop", drained).unwrap();
    });
    bench.edit(|model| {
        model.set_server("shop", server("198.18.0.121:80")).unwrap();
    });
    assert_eq!(starts(&bench), [Some(6000), None, Some(5000)]);
}

/// Its tables are reserved when it is configured, not when everything else has failed.
#[test]
fn a_sorry_server_of_ipv6_serves_while_the_quorum_is_lost() {
    let mut bench = Bench::new(SHOP);
    let sorry = "[fd00:18::9]:80";
    let text = SHOP
        .replace("198.18.0.10-198.18.0.13", "198.18.0.10-198.18.0.13, \"fd00:18::10\"")
        .replacen("protocol: tcp", &format!("protocol: tcp\n    sorry_server: \"{sorry}\""), 1);
    let (plan, _) = bench.apply(model(&text)).unwrap();
    assert!(plan.wide.is_some());
    let listed = |bench: &Bench| slots(&bench.service(80)).into_keys().collect::<Vec<_>>();
    assert_eq!(listed(&bench).len(), 2);
    let mut request = bench.request(Arc::clone(bench.compiler.config()));
    let down = ["198.18.0.121:80", "198.18.0.122:80"]
        .map(|server| (server.parse().unwrap(), config::OnFailure::Remove));
    let ruling = health::Ruling { down: down.into(), lost: true };
    request.rulings = Arc::new([("shop".to_owned(), Arc::new(ruling))].into());
    let plan = bench.compiler.plan(request).unwrap();
    bench.compiler.commit(plan);
    assert_eq!(listed(&bench), [sorry]);
    assert!(bench.service(80).has_ipv6_server());
}

#[test]
fn a_neighbour_that_nothing_leads_to_is_a_warning() {
    let mut bench = Bench::new(SHOP);
    let text = format!(
        "{SHOP}neighbours: [ {{ address: 10.9.9.9, mac: \"02:00:00:00:00:09\", dev: lan0 }} ]\n"
    );
    let (plan, _) = bench.apply(model(&text)).unwrap();
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert_eq!(plan.warnings[0].path, "neighbours[0]");
}

#[test]
fn a_lip_that_is_gone_lingers_until_it_is_let_go() {
    let mut bench = Bench::new(SHOP);
    let ip = |address: &str| address.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
    let lip = |address: &str| address.parse::<std::net::IpAddr>().unwrap();
    let role = |bench: &Bench, address: &str| {
        bench.compiler.snapshot().fib.owner(ip(address)).map(|owner| (owner.role, owner.iface))
    };
    let lingering = |bench: &Bench| -> Vec<u32> {
        bench.compiler.lingering().iter().filter_map(|lip| u32::from_ip(lip.address)).collect()
    };
    assert!(lingering(&bench).is_empty());
    bench.edit(|model| {
        for address in ["198.18.0.11", "198.18.0.12", "198.18.0.13"] {
            model.delete_lip("shop", lip(address)).unwrap();
        }
    });
    assert_eq!(*bench.service(80).spec().lips, [ip("198.18.0.10")]);
    assert_eq!(lingering(&bench), ["198.18.0.11", "198.18.0.12", "198.18.0.13"].map(ip));
    assert_eq!(role(&bench, "198.18.0.13"), Some((fib::Role::Lip, LAN)));

    // Configured anew, in the same role or as another interface's own, it lingers no more.
    let old = bench.compiler.lingering();
    bench.edit(|model| {
        model.add_lip("shop", "198.18.0.11".parse().unwrap(), None).unwrap();
        let address = "198.18.0.12/32".parse().unwrap();
        let active = config::Active::Always;
        model.add_address(config::Address { address, dev: "wan0".into(), active }).unwrap();
    });
    assert_eq!(role(&bench, "198.18.0.12"), Some((fib::Role::Local, WAN)));
    assert_eq!(lingering(&bench), [ip("198.18.0.13")]);
    bench.edit(|model| {
        model.delete_lip("shop", lip("198.18.0.11")).unwrap();
    });

    // What was found of it before it came back does not count.
    bench.compiler.let_go(&old);
    let (plan, _) = bench.apply(Arc::clone(bench.compiler.config())).unwrap();
    assert!(plan.fib_changed);
    assert_eq!(lingering(&bench), [ip("198.18.0.11")]);
    assert_eq!(role(&bench, "198.18.0.13"), None);

    // It is no reason to refuse a change: here it becomes a broadcast address.
    bench.edit(|model| {
        let address = "198.18.0.9/30".parse().unwrap();
        let active = config::Active::Always;
        model.add_address(config::Address { address, dev: "lan0".into(), active }).unwrap();
    });
    assert!(lingering(&bench).is_empty());
    assert_eq!(role(&bench, "198.18.0.10"), Some((fib::Role::Lip, LAN)));
}

#[test]
fn an_address_with_the_kernel_is_ours_exactly_while_the_kernel_holds_it() {
    let text = SHOP
        .replace("203.0.113.10/32, dev: wan0", "203.0.113.10/32, dev: wan0, active: with-kernel")
        .replace("\"net_null0\"", "\"net_null0\", kni: wan0.kni");
    let ip = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
    let role = |bench: &Bench, address: &str| {
        let owner = bench.compiler.snapshot().fib.owner(ip(address));
        owner.map(|owner| (owner.role, owner.iface))
    };
    let mut bench = Bench::new(&text);
    let vip = ip("203.0.113.10");
    assert_eq!(role(&bench, "203.0.113.10"), None);
    bench.kernel(&[(LAN, vip)]);
    assert_eq!(role(&bench, "203.0.113.10"), None, "on another interface");
    let generation = bench.compiler.snapshot().fib.generation();
    bench.kernel(&[(WAN, vip)]);
    assert_eq!(role(&bench, "203.0.113.10"), Some((fib::Role::Vip, WAN)));
    assert_ne!(bench.compiler.snapshot().fib.generation(), generation);
    assert!(bench.compiler.snapshot().kernel.holds(WAN, vip));
    // Gone at once, whatever conns there are: another node has it now.
    bench.kernel(&[]);
    assert_eq!(role(&bench, "203.0.113.10"), None);
    assert!(bench.compiler.lingering().is_empty());
    // As a LIP, too.
    bench.edit(|model| {
        let mut entry = config::Address {
            address: "198.18.0.11/32".parse().unwrap(),
            dev: "wan0".into(),
            active: config::Active::WithKernel,
        };
        model.add_address(entry.clone()).unwrap();
        entry.address = "198.18.0.99/32".parse().unwrap();
        entry.dev = "lan0".into();
        let refused = model.add_address(entry).unwrap_err();
        assert!(refused[0].to_string().contains("which has no KNI"), "{}", refused[0]);
    });
    assert_eq!(role(&bench, "198.18.0.11"), None);
}
