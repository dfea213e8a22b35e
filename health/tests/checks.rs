//! Checks of servers on this machine: of each type, what passes, what fails, and what cannot be made.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Health;
use health::{Change, Checker, Outcome, Target, Way};
use types::Endpoint;

/// Nothing here takes so long but by a fault.
const SOON: Duration = Duration::from_secs(20);

fn check(yaml: &str) -> Health {
    serde_yaml::from_str(&format!("{{ interval: 100ms, {yaml} }}")).unwrap()
}

fn target(server: SocketAddr, yaml: &str) -> Arc<Target> {
    let server: Endpoint = server.to_string().parse().unwrap();
    Arc::new(Target { server, check: Arc::new(check(yaml)), way: Way::default() })
}

fn start(targets: &[Arc<Target>]) -> Checker {
    let checker = Checker::start(|| {}).unwrap();
    checker.check(targets.iter().map(|target| (Arc::clone(target), true)).collect());
    checker
}

/// What the first check of a server comes to.
#[track_caller]
fn outcome(server: SocketAddr, yaml: &str) -> Outcome {
    let target = target(server, yaml);
    let checker = start(&[Arc::clone(&target)]);
    let begun = Instant::now();
    loop {
        let status = checker.status(&target);
        if let Some((outcome, _)) = status.and_then(|status| status.last) {
            return outcome;
        }
        assert!(begun.elapsed() < SOON, "{yaml}: it is not checked");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn passes(server: SocketAddr, yaml: &str) {
    let outcome = outcome(server, yaml);
    assert!(matches!(outcome, Outcome::Passed(_)), "{yaml}: {outcome:?}");
}

#[track_caller]
fn fails(server: SocketAddr, yaml: &str, why: &str) {
    match outcome(server, yaml) {
        Outcome::Failed(told) => assert!(told.contains(why), "{yaml}: {told}"),
        other => panic!("{yaml}: {other:?}"),
    }
}

#[track_caller]
fn cannot(server: SocketAddr, yaml: &str, why: &str) {
    match outcome(server, yaml) {
        Outcome::Unknown(told) => assert!(told.contains(why), "{yaml}: {told}"),
        other => panic!("{yaml}: {other:?}"),
    }
}

/// The next changes of a checker.
fn changes(checker: &Checker) -> Vec<Change> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let waited = runtime.block_on(async { tokio::time::timeout(SOON, checker.changes()).await });
    waited.expect("nothing changes")
}

/// Nobody listens there.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Answers every request with this, until the test ends.
fn web(response: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut octets = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut octets) {
                    Ok(len) if len > 0 => request.extend_from_slice(&octets[..len]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            // Who asks for another page, or for another host, gets neither.
            let well =
                text.starts_with("GET /health HTTP/1.1\r\n") && text.contains("host: web\r\n");
            let response = if well { response } else { "HTTP/1.1 400 Bad Request\r\n\r\n" };
            // The other side may be gone.
            let _ = stream.write_all(response.as_bytes());
        }
    });
    address
}

/// Answers every datagram with what `answer` makes of it.
fn datagrams(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut octets = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut octets) {
            if let Some(answer) = answer(&octets[..len]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

#[test]
fn tcp_comes_and_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    passes(address, "type: tcp");
    passes(nobody(), &format!("type: tcp, port: {}", address.port()));
    fails(nobody(), "type: tcp", "refused");

    let target = target(address, "type: tcp, fall: 2, rise: 2");
    let checker = start(&[Arc::clone(&target)]);
    drop(listener);
    let [down] = changes(&checker).try_into().unwrap();
    assert!(!down.up && down.target == target && down.reason.contains("refused"), "{down:?}");
    let status = checker.status(&target).unwrap();
    assert!(!status.up && status.failures >= 2 && status.changes == 1, "{status:?}");
    let _again = TcpListener::bind(address).unwrap();
    let [up] = changes(&checker).try_into().unwrap();
    assert!(up.up, "{up:?}");
    assert!(checker.status(&target).unwrap().up);
    // What is not wanted any more is forgotten.
    checker.check(HashMap::new());
    let begun = Instant::now();
    while checker.status(&target).is_some() {
        assert!(begun.elapsed() < SOON, "it is still checked");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn http_by_status_digest_and_body() {
    let page = web("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
    let check = |more: &str| format!("type: http, path: /health, host: web{more}");
    passes(page, &check(""));
    passes(page, &check(", status: [ 200, 404 ]"));
    fails(page, &check(", status: [ 300-599 ]"), "status 200");
    // What `echo ok | md5sum` prints.
    passes(page, &check(", digest: eff5bc1ef8ec9d03e640fc4370f5eacd"));
    fails(
        page,
        &check(", digest: eff5bc1ef8ec9d03e640fc4370f5eace"),
        "eff5bc1ef8ec9d03e640fc4370f5eacd",
    );
    passes(page, &check(", body: '^o[jk]', body_not: fault"));
    fails(page, &check(", body: '^k'"), "does not match");
    fails(page, &check(", body_not: ok"), "matches `ok`");
    fails(page, "type: http, path: /other, host: web", "status 400");
    // It waits for the rest of what it takes for a request.
    fails(page, "type: https, path: /health, host: web, timeout: 200ms", "no answer in 200ms");
    passes(web("HTTP/1.0 204 No Content\r\n\r\n"), &check(""));
    fails(web("HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n"), &check(""), "status 503");
    fails(web("SSH-2.0-OpenSSH\r\n"), &check(""), "HTTP");
    fails(web(""), &check(""), "HTTP");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    fails(silent.local_addr().unwrap(), &check(", timeout: 50ms"), "no answer in 50ms");
}

#[test]
fn udp_by_an_answer_or_by_no_error() {
    let echo = datagrams(|octets| Some(octets.to_vec()));
    passes(echo, "type: udp, send: 'aB 01', reply: any");
    passes(echo, "type: udp, send: ab01ff, reply: abx1");
    fails(echo, "type: udp, send: ab01, reply: ab02", "another answer");
    fails(echo, "type: udp, send: ab, reply: abab", "another answer");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    passes(address, "type: udp, timeout: 50ms");
    fails(address, "type: udp, timeout: 50ms, reply: any", "no answer in 50ms");
    drop(silent);
    fails(address, "type: udp", "refused");
}

#[test]
fn dns_by_its_code() {
    let answers = |code: u8| {
        datagrams(move |question| {
            // One type and class behind the name, of which each label has its length before it.
            assert!(question.ends_with(b"\x03www\x07example\x00\x00\x1c\x00\x01"), "{question:?}");
            let mut answer = question.to_vec();
            answer[2] |= 0x80;
            answer[3] = code;
            Some(answer)
        })
    };
    let question = "type: dns, name: www.example., record: AAAA";
    passes(answers(0), question);
    fails(answers(3), question, "NameError");
    // What answers another question is none.
    let others = datagrams(|question| {
        let mut answer = question.to_vec();
        answer[0] ^= 1;
        answer[2] |= 0x80;
        Some(answer)
    });
    fails(others, "type: dns, timeout: 50ms", "no answer in 50ms");
    fails(datagrams(|_| Some(vec![1])), "type: dns", "no DNS");
}

#[test]
fn icmp_of_both_families() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: raw sockets are root's");
        return;
    }
    passes("127.0.0.1:80".parse().unwrap(), "type: icmp");
    if fs::read_to_string("/proc/net/if_inet6").is_ok_and(|table| table.contains(" lo")) {
        passes("[::1]:80".parse().unwrap(), "type: icmp");
    }
}

#[test]
fn scripts_are_nobodys_and_get_no_shell() {
    let server: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let sh = |line: &str| format!("type: script, command: [ /bin/sh, '-c', '{line}' ]");
    passes(server, &sh("test $DPNAT_SERVER_ADDRESS:$DPNAT_SERVER_PORT = 127.0.0.1:80"));
    fails(server, &sh("exit 3"), "exit status 3");
    fails(server, &sh("kill -9 $$"), "signal");
    passes(server, "type: script, command: [ /usr/bin/test, '$HOME; true', '=', '$HOME; true' ]");
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // With what it has started it ends.
    let line = format!("(sleep 1; echo late > {}) & sleep 60", mark.display());
    fails(server, &format!("{}, timeout: 300ms", sh(&line)), "no answer in 300ms");
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(!mark.exists(), "what the script started goes on");
    cannot(server, "type: script, command: [ /no/such/program ]", "no such file");
    let open = folder.path().join("open");
    fs::write(&open, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let command = format!("type: script, command: [ {} ]", open.display());
    cannot(server, &command, "may be changed by others");
    if rustix::process::geteuid().is_root() {
        passes(
            server,
            &sh("test $(id -un) = nobody && test -z \"$HOME$SHELL\" && ! id -G | grep -qw 0"),
        );
        passes(server, &format!("{}, user: root", sh("test $(id -u) = 0")));
        cannot(server, "type: script, command: [ /bin/true ], user: ghost-of-nobody", "no user");
    }
}

#[test]
fn a_flood_of_failing_checks_leaves_room_for_others() {
    let dead = nobody();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut targets: Vec<_> = (0..2_000u32)
        .map(|number| {
            let server: SocketAddr =
                format!("127.1.{}.{}:{}", number / 250, number % 250, dead.port()).parse().unwrap();
            target(server, "type: tcp, fall: 1")
        })
        .collect();
    let well = target(alive.local_addr().unwrap(), "type: tcp, initial: down");
    targets.push(Arc::clone(&well));
    let checker = start(&targets);
    let mut down = 0;
    while down < 2_000 {
        down += changes(&checker).iter().filter(|change| !change.up).count();
    }
    assert_eq!(down, 2_000);
    assert!(checker.status(&well).is_some_and(|status| status.up));
}
