//! Proves that
//! - the daemon is ready within two seconds without huge pages, and stops at once with exit code 0,
//!   leaving no socket, process or interface;
//! - `--check` prints the memory plan and touches nothing; a bad file is refused with line and column,
//!   and a CPU that is not there by its number, exit code 1, before any device is opened;
//! - SIGTERM lets conns end within `shutdown.drain` while new ones are refused; a second one ends at once;
//! - SIGHUP re-applies the file, and a bad file changes nothing;
//! - a second instance on the same socket refuses; after SIGKILL the next one starts;
//! - a reload under load fails no request;
//! - a worker that hangs is noticed, and neither the API nor the end waits for it;
//! - after the start the daemon has the privileges that it needs and no others;
//! - without a daemon the CLI says in one line which socket it tried and how to start one.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{
    Arm, Ctl, Daemon, Lab, Load, Nginx, Wrk, accept_one, connect, http_get, listen, run, wait_until,
};

#[test]
fn it_starts_quickly_and_leaves_nothing() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    // The default: tables for a million conns.
    config["conntrack"]["max_connections"] = 1_000_000.into();
    let start = Instant::now();
    let daemon = Daemon::start(&lab, &config);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "ready after {took:?}");
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    let start = Instant::now();
    daemon.stop();
    assert!(start.elapsed() < Duration::from_secs(2), "stopped after {:?}", start.elapsed());
}

#[test]
fn check_prints_the_plan_and_touches_nothing() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    // Nobody has this device: --check does not look.
    config["interfaces"]["wan0"]["device"] = "net_af_packet9,iface=nothere0".into();
    fs::write(lab.path("dpnat.yaml"), config.to_string()).unwrap();
    let checked = run(Daemon::command(&lab).arg("--check")).ok();
    let plan = checked.stdout.to_lowercase();
    for word in ["memory", "mib", "worker"] {
        assert!(plan.contains(word), "no {word} in:\n{}", checked.stdout);
    }
    assert!(!lab.path("dpnat.sock").exists());
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    for (text, place, words) in [
        ("version: 1\nhugepage: off\n", "2:1", "hugepage"),
        ("version: 1\nworkers: { cpus: \"1\", idel: poll }\n", "2:", "idel"),
        ("version: 1\nconntrack:\n  max_connections: lots\n", "3:", "lots"),
        (
            "version: 1\ninterfaces:\n  a: { device: x }\n  a: { device: y }\n",
            "4:3",
            "interfaces.a",
        ),
        ("version: 1\nroutes: [\n", "", ""),
    ] {
        fs::write(lab.path("dpnat.yaml"), text).unwrap();
        let refused = run(&mut Daemon::command(&lab));
        assert_eq!(refused.code, 1, "{text}: {refused:?}");
        assert!(refused.stderr.contains(place), "{place} is not in: {}", refused.stderr);
        assert!(refused.stderr.contains(words), "{words} is not in: {}", refused.stderr);
        assert!(!refused.stderr.contains("EAL"), "DPDK was started: {}", refused.stderr);
    }
}

#[test]
fn sigterm_drains_and_a_second_one_ends_two_arm() {
    sigterm_drains_and_a_second_one_ends(Arm::Two);
}

#[test]
fn sigterm_drains_and_a_second_one_ends_one_arm() {
    sigterm_drains_and_a_second_one_ends(Arm::One);
}

fn sigterm_drains_and_a_second_one_ends(arm: Arm) {
    let Some(lab) = Lab::new(arm, Load::Light) else { return };
    let mut config = lab.config();
    config["shutdown"] = serde_json::json!({ "drain": "20s" });
    config["services"]["web"]["servers"] = serde_json::json!([{ "address": "198.18.0.121:80" }]);
    config["conntrack"]["timeouts"] =
        serde_json::json!({ "tcp_closed": "1s", "tcp_closing": "1s" });
    let listener = listen(&lab.servers[0], "198.18.0.121:80");
    for ends_by_itself in [true, false] {
        let mut daemon = Daemon::start(&lab, &config);
        let mut client = connect(&lab.client, &format!("{}:80", lab.vip())).unwrap();
        let (mut server, _) = accept_one(&listener);
        daemon.process().signal(Signal::TERM);
        thread::sleep(Duration::from_millis(300));
        client.write_all(b"still open").unwrap();
        server.read_exact(&mut [0; 10]).unwrap();
        let refused = connect(&lab.client, &format!("{}:80", lab.vip()));
        assert!(refused.is_err(), "a new conn while draining");
        assert_eq!(daemon.process().ended(), None);
        if ends_by_itself {
            drop((client, server));
        } else {
            daemon.process().signal(Signal::TERM);
        }
        let limit = Duration::from_secs(if ends_by_itself { 8 } else { 1 });
        assert_eq!(daemon.process().wait(limit), 0);
        daemon.assert_gone();
    }
}

#[test]
fn sighup_applies_the_file_or_changes_nothing() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    let daemon = Daemon::start(&lab, &config);
    let before = daemon.ctl.run(&["export"]);

    config["services"]["web"]["servers"] = serde_json::json!([{ "address": "198.18.0.122:80" }]);
    config["services"]["more"] = config["services"]["web"].clone();
    config["services"]["more"]["vips"] = serde_json::json!([format!("{}:81", lab.vip())]);
    daemon.reload(&config);
    wait_until("the file is applied", Duration::from_secs(3), || {
        daemon.ctl.run(&["export"]) != before
    });
    for _ in 0..4 {
        assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs2"));
    }
    assert!(http_get(&lab.client, &format!("http://{}:81/", lab.vip())).starts_with("rs2"));

    let applied = daemon.ctl.run(&["export"]);
    config["services"]["web"]["schedular"] = "rr".into();
    daemon.reload(&config);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.ctl.run(&["export"]), applied);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs2"));
    daemon.stop();
}

#[test]
fn a_second_instance_refuses_and_a_killed_one_blocks_nobody() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut daemon = Daemon::start(&lab, &lab.config());
    let second = run(&mut Daemon::command(&lab));
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.stderr.contains("dpnat.sock"), "names the socket: {}", second.stderr);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));

    daemon.process().signal(Signal::KILL);
    daemon.process().wait(Duration::from_secs(2));
    drop(daemon);
    let daemon = Daemon::start(&lab, &lab.config());
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    daemon.stop();
}

#[test]
fn a_reload_under_load_fails_no_request() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    let daemon = Daemon::start(&lab, &config);
    let url = lab.url("/quiet");
    let (long, short) = thread::scope(|scope| {
        let client = &lab.client;
        let long = scope.spawn(|| Wrk::run(client, 50, 5, &[&url]));
        let short = scope.spawn(|| Wrk::run(client, 20, 5, &["-H", "Connection: close", &url]));
        for round in 0..20 {
            thread::sleep(Duration::from_millis(200));
            config["services"]["web"]["scheduler"] = ["wrr", "rr", "mh", "wlc"][round % 4].into();
            config["services"]["web"]["servers"][0]["weight"] = (round + 1).into();
            let more = round % 3;
            config["services"]["other"] = config["services"]["web"].clone();
            config["services"]["other"]["vips"] =
                serde_json::json!([format!("{}:{}", lab.vip(), 1000 + more)]);
            if round % 2 == 0 {
                daemon.reload(&config);
            } else {
                fs::write(lab.path("change.yaml"), config.to_string()).unwrap();
                let change = lab.path("change.yaml");
                daemon.ctl.run(&["apply", "--prune", "-f", change.to_str().unwrap()]);
            }
        }
        (long.join().unwrap(), short.join().unwrap())
    });
    assert_eq!((long.errors, short.errors), (Vec::new(), Vec::new()));
    assert!(long.requests > 1000 && short.requests > 1000);
    daemon.stop();
}

#[test]
fn the_cli_says_who_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    let refused = Ctl::new(&socket).try_run(&["service", "list"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert_eq!(refused.stdout, "");
    assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
    assert!(refused.stderr.contains(socket.to_str().unwrap()), "{}", refused.stderr);
    assert!(refused.stderr.contains("dpnatd"), "how to start it: {}", refused.stderr);
}

#[test]
fn a_worker_that_hangs_is_noticed() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    // A real-time process takes the worker's CPU away.
    let mut thief = Command::new("timeout");
    thief.args([
        "0.6",
        "chrt",
        "-f",
        "50",
        "taskset",
        "-c",
        "1",
        "sh",
        "-c",
        "while :; do :; done",
    ]);
    run(&mut thief);
    wait_until("it is logged", Duration::from_secs(2), || {
        let log = daemon.log().to_lowercase();
        log.contains("worker does not come round") && log.contains("comes round again")
    });
    daemon.stop();
}

/// By what DPDK names the threads of its lcores; tokio has workers, too.
fn is_worker(name: &str) -> bool {
    name.starts_with("rte-worker") || name.starts_with("lcore-worker")
}

/// The threads of a process: names and numbers.
fn threads(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let task = |task: std::io::Result<fs::DirEntry>| {
        let path = task.unwrap().path();
        let name = fs::read_to_string(path.join("comm")).unwrap().trim().to_owned();
        (name, path.file_name().unwrap().to_string_lossy().into_owned())
    };
    tasks.map(task).collect()
}

#[test]
fn a_worker_that_hangs_does_not_hold_up_the_end() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut daemon = Daemon::start(&lab, &lab.config());
    let threads = threads(daemon.process().pid());
    let worker = threads.iter().find(|(name, _)| is_worker(name));
    let (_, worker) = worker.unwrap_or_else(|| panic!("no worker in {threads:?}"));
    // Stops this one thread, as nothing but ptrace can: PTRACE_SEIZE, PTRACE_INTERRUPT.
    let ptrace = if cfg!(target_arch = "x86_64") { 101 } else { 117 };
    let stop = format!(
        "syscall({ptrace}, 0x4206, {worker}, 0, 0) == 0 or die $!; \
         syscall({ptrace}, 0x4207, {worker}, 0, 0) == 0 or die $!; sleep 30"
    );
    let mut tracer = Command::new("perl").args(["-e", &stop]).spawn().unwrap();
    wait_until("it is noticed", Duration::from_secs(3), || {
        daemon.log().contains("worker does not come round")
    });
    // The API still answers what needs no worker, and does not wait for ever for what needs one.
    assert!(daemon.ctl.run(&["status"]).contains("does not come round"));
    let refused = daemon.ctl.try_run(&["conn", "list"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("worker 0 does not come round"), "{}", refused.stderr);
    daemon.process().signal(Signal::TERM);
    wait_until("it ends without the worker", Duration::from_secs(5), || {
        daemon.log().contains("workers do not end")
    });
    // A thread that is traced is not buried before its tracer.
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    assert_eq!(daemon.process().wait(Duration::from_secs(2)), 1);
    daemon.assert_gone();
}

#[test]
fn privileges_that_are_not_needed_are_gone() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    let mut daemon = Daemon::start(&lab, &config);
    let pid = daemon.process().pid();
    let field = |task: &str, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).to_owned()
    };
    let caps = |task: &str| u64::from_str_radix(&field(task, "CapPrm"), 16).unwrap();
    let (net_admin, net_raw, ipc_lock, sys_admin) = (1 << 12, 1 << 13, 1 << 14, 1 << 21);
    let later: u64 = net_admin | net_raw | ipc_lock | sys_admin;
    assert_eq!(caps(&pid.to_string()) & !later, 0, "of the main thread");
    assert_ne!(caps(&pid.to_string()) & net_raw, 0);
    for (name, task) in threads(pid) {
        assert_eq!(field(&task, "NoNewPrivs"), "1", "{name}");
        if is_worker(&name) {
            assert_eq!(caps(&task), 0, "{name}");
        }
    }
    // What it does later it still can.
    config["log"] = serde_json::json!({ "level": "debug" });
    daemon.reload(&config);
    wait_until("the file is applied", Duration::from_secs(3), || {
        daemon.ctl.run(&["log", "show"]).contains("debug")
    });
    daemon.ctl.run(&["server", "del", "web", "198.18.0.121:80"]);
    daemon.ctl.run(&["config", "save"]);
    daemon.stop();
}

#[test]
fn cpus_that_are_not_there_are_named() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["workers"]["cpus"] = "1,1000-1001".into();
    fs::write(lab.path("dpnat.yaml"), config.to_string()).unwrap();
    let named = "CPUs 1000, 1001 are not there";
    // A file may be checked elsewhere than where it is for.
    let checked = run(Daemon::command(&lab).arg("--check")).ok();
    let warning = format!("warning: workers.cpus: {named}");
    assert!(checked.stdout.contains(&warning), "{}", checked.stdout);
    let refused = run(&mut Daemon::command(&lab));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains(named), "{}", refused.stderr);
    assert!(!refused.stderr.contains("EAL"), "DPDK was started: {}", refused.stderr);
}
