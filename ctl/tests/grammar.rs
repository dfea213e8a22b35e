//! Bad input: each line with its exit code and what it says; and the ways to fail.

use std::io::{self, Write};

use api::{ErrorBody, ErrorCode, ErrorDetail, Operation};
use serde_json::json;

use crate::daemon::{Daemon, answer, connections, dpctl_at};

#[test]
fn bad_words_are_refused_with_the_way_out() {
    let daemon = Daemon::new();
    for (line, says) in [
        ("frobnicate", "`frobnicate` is no object; there are status, address, route"),
        ("a", "`a` is ambiguous: it may be address or apply"),
        ("service s", "`s` is ambiguous: it may be show or set"),
        ("service rename shop", "`rename` is no verb; there are show, add, set"),
        ("service add", "<SERVICE>"),
        ("service add shop --protocol tcp", "--vip"),
        ("service add shop --vip 203.0.113.10:80", "--protocol"),
        ("service add shop --vip 203.0.113.10 --protocol tcp", "`203.0.113.10` is not an address"),
        ("service add shop --vip 203.0.113.10:80 --protocol sctp", "'sctp'"),
        ("service add shop --vip 203.0.113.10:80 --protocol tcp --scheduler fifo", "conhash"),
        ("service add shop --vip 203.0.113.10:80 --protocol tcp --schedular rr", "'--scheduler'"),
        ("service set shop", "nothing to change: give --scheduler"),
        ("service set shop --timeout tcp=3s", "`tcp` is no timeout; there are tcp_syn"),
        ("service set shop --timeout udp", "`udp` is not a name and a value"),
        ("service set shop --slow-start 3", "`3` is not a duration"),
        ("service set shop --max-connections many", "or write `none`"),
        ("server add shop 198.18.0.121", "`198.18.0.121` is not an address and a port"),
        ("server add shop 198.18.0.121:80 --weight 65536", "65536"),
        ("server add shop 198.18.0.121:80 --weight -1", "-1"),
        ("server set shop 198.18.0.121:80", "nothing to change: give --weight"),
        ("server set shop 198.18.0.121:80 --admin off", "[possible values: enabled, drain"),
        ("lip add shop 198.18.0.41-198.18.0.10", "ends before it begins"),
        ("lip del shop 198.18.0.0/24", "198.18.0.0/24"),
        ("address add 203.0.113.10/33 dev wan0", "`203.0.113.10/33` is not an address"),
        ("address add 203.0.113.10/32", "--dev <INTERFACE>"),
        ("address add 203.0.113.10/32 dev", "--dev <INTERFACE>"),
        ("address add 203.0.113.10/32 dev wan0 wan1", "'wan1'"),
        ("route add 10.0.0.1/8 dev wan0", "did you mean `10.0.0.0/8`?"),
        ("route add default gw 203.0.113.1 dev wan0", "'gw'"),
        ("neigh add 198.18.0.1 lladdr 02:00 dev lan0", "`02:00` is not a MAC address"),
        ("conn list --state dead", "syn-sent"),
        ("conn list --limit 0", "0 is not in 1.."),
        ("conn del", "which connections? name them"),
        ("snat add", "<RULE>"),
        ("snat add office --source 10.0.0.1/8", "did you mean `10.0.0.0/8`?"),
        ("snat add office --source 10.0.0.9-10.0.0.1", "ends before it begins"),
        ("snat add office --source 10.0.0.0/8,", "`` is not an address"),
        ("snat add office --protocol tpc", "`tpc` is no protocol; write a number from 0 to 255"),
        ("snat add office --wan 203.0.113.300", "or write `interface`"),
        ("snat add office --wan 192.0.2.1,192.0.2.2,weight=2", "are of one address: give"),
        ("snat add office --wan 192.0.2.1,admin=up", "`up` is not one of enabled, drain"),
        ("snat add office --ports 1024-65536", "65536 is no port; ports go from 1 to 65535"),
        ("snat add office --ports 2000-1000", "did you mean `1000-2000`?"),
        ("snat add office --ports 0-1000", "0 is no port"),
        ("snat add office --mapping symmetric", "[possible values: endpoint-independent"),
        ("snat add office --mss-clamp 0", "`0` is not off, path or a number of bytes"),
        ("snat add office --port-rest 120", "`120` is not a duration"),
        ("snat add office --timeout tcp=3h", "`tcp` is no timeout; there are tcp_syn"),
        ("snat add office --before a --position 1", "cannot be used with"),
        ("snat add office --position 0", "0 is not in 1.."),
        ("snat set office", "nothing to change: give --source"),
        ("snat mappings --inside 10.0.0.0/8", "10.0.0.0/8"),
        ("snat subscriber", "<ADDRESS>"),
        ("dnat add ssh --on 203.0.113.20 --protocol tcp --to 10.0.0.5:22", "`203.0.113.20` is not"),
        ("dnat add ssh --on 203.0.113.20:22 --to 10.0.0.5:22", "--protocol"),
        ("dnat add ssh --on 203.0.113.20:22 --protocol tcp", "--to"),
        (
            "dnat add ssh --on 203.0.113.20:9-1 --protocol tcp --to 10.0.0.5:22",
            "did you mean `1-9`?",
        ),
        ("dnat set ssh", "nothing to change: give --on"),
        ("forwarding set", "nothing to change: give --policy"),
        ("forwarding rule add lan", "--action"),
        ("forwarding rule set lan", "nothing to change"),
        ("stats --count 3", "--interval"),
        ("stats --interval 0s", "--interval 0s: rates need some time"),
        ("explain --in wan0 --from 192.0.2.1 --to 203.0.113.10", "no port; write it as in"),
        (
            "explain --in wan0 --from 192.0.2.1 --to 1.2.3.4:5 --protocol icmp",
            "no ports, such as 5",
        ),
        (
            "explain --in wan0 --from 192.0.2.1 --to 1.2.3.4:5 --protocol udp --flags syn",
            "has none",
        ),
        ("explain --in wan0 --from 192.0.2.1 --to 1.2.3.4:5 --flags sin", "`sin` is no TCP flag"),
        ("-4 -6 addr", "cannot be used with"),
        ("-br -j addr", "cannot be used with"),
        ("apply", "--file <FILE>"),
        ("log level loud", "'loud'"),
        ("completion tcsh", "'tcsh'"),
    ] {
        let finished = daemon.dpctl(line);
        assert_eq!(finished.code, 2, "{line}: {finished:?}");
        assert_eq!(finished.out, "", "{line}");
        assert!(finished.err.starts_with("error: "), "{line}: {}", finished.err);
        assert!(finished.err.contains(says), "{line}: {}", finished.err);
        assert_eq!(daemon.asked(), [""; 0], "{line} has asked the daemon");
    }
}

fn detail(code: ErrorCode) -> ErrorDetail {
    ErrorDetail {
        field: Some("services.shop.vips[0]".to_owned()),
        value: Some("203.0.113.10:80".to_owned()),
        hint: Some("give it another port".to_owned()),
        ..*ErrorBody::new(code, "203.0.113.10:80 is taken by web").error
    }
}

#[test]
fn refusals_have_exit_codes() {
    for (code, exit) in [
        (ErrorCode::BadRequest, 1),
        (ErrorCode::Forbidden, 1),
        (ErrorCode::MethodNotAllowed, 1),
        (ErrorCode::TooLarge, 1),
        (ErrorCode::Invalid, 1),
        (ErrorCode::Internal, 1),
        (ErrorCode::NotFound, 3),
        (ErrorCode::Unavailable, 4),
        (ErrorCode::Conflict, 5),
    ] {
        let daemon = Daemon::refusing(detail(code).into());
        let finished = daemon.dpctl("service set shop --scheduler rr");
        assert_eq!(finished.code, exit, "{code:?}");
        assert_eq!(finished.out, "");
        assert_eq!(
            finished.err,
            "error: services.shop.vips[0]: 203.0.113.10:80 is taken by web; \
             give it another port\n",
        );
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.yaml");
    std::fs::write(&file, "services: {}\n").unwrap();
    let file = file.to_str().unwrap();
    let first = detail(ErrorCode::Conflict);
    let at = |line: u8| serde_json::from_value(json!(line)).unwrap();
    let second = ErrorDetail { line: at(3), column: at(5), ..detail(ErrorCode::Invalid) };
    let body = ErrorBody { others: vec![second], ..first.into() };
    let daemon = Daemon::refusing(body);
    for line in [format!("apply -f {file}"), format!("diff -f {file}")] {
        let finished = daemon.dpctl(&line);
        assert_eq!(finished.code, 5);
        let lines: Vec<_> = finished.err.lines().collect();
        assert_eq!(lines.len(), 2, "{}", finished.err);
        assert!(lines[0].starts_with(&format!("error: {file}: services.shop.vips[0]: ")));
        assert!(lines[1].starts_with(&format!("error: {file}:3:5: services.shop.vips[0]: ")));
    }
    let finished = daemon.dpctl(&format!("apply -f {file}.gone"));
    assert_eq!(finished.code, 1);
    assert!(finished.err.starts_with(&format!("error: {file}.gone: No such file")));
}

#[test]
fn a_daemon_that_is_not_there_takes_one_line() {
    for line in ["", "service list", "-j stats", "addr add 203.0.113.10/32 dev wan0"] {
        let finished = dpctl_at("/nonexistent/dpnat.sock", line, None);
        assert_eq!(finished.code, 4, "{line}");
        assert_eq!(finished.out, "");
        assert_eq!(finished.err.lines().count(), 1, "{}", finished.err);
        assert!(finished.err.contains("/nonexistent/dpnat.sock"), "{}", finished.err);
        assert!(finished.err.contains("systemctl start dpnatd"), "{}", finished.err);
    }
    // What needs no daemon works without one.
    assert_eq!(dpctl_at("/nonexistent/dpnat.sock", "completion bash", None).code, 0);
    assert_eq!(
        dpctl_at("/nonexistent/dpnat.sock", "version", None).out,
        "dpctl   1.2.3 (0123456789ab)\n"
    );
}

#[test]
fn an_answer_that_makes_no_sense_is_no_panic() {
    let daemon = Daemon::answering(|_, _| Ok(json!({ "new": "field" })));
    let finished = daemon.dpctl("status");
    assert_eq!(finished.code, 1);
    assert!(finished.err.contains("are both of one version?"), "{}", finished.err);
}

#[test]
fn conns_are_asked_for_by_page_until_there_are_enough() {
    let daemon = Daemon::answering(|operation, query| {
        assert_eq!(operation, Operation::ConnectionList);
        Ok(match query.contains("cursor=") {
            false => connections(0..2, Some("b")),
            true => connections(2..4, Some("c")),
        })
    });
    let finished = daemon.dpctl("-br conn list --limit 3");
    assert_eq!(finished.out.lines().count(), 3);
    assert!(finished.err.contains("there are more"), "{}", finished.err);
    assert_eq!(
        daemon.asked(),
        ["GET /v1/connections?limit=3", "GET /v1/connections?limit=1&cursor=b",]
    );
    let finished = daemon.dpctl("-j conn list --limit 4");
    let page: serde_json::Value = serde_json::from_str(&finished.out).unwrap();
    assert_eq!(page["connections"].as_array().unwrap().len(), 4);
    assert_eq!(page["next"], "c");
    assert_eq!(finished.err, "");
}

#[test]
fn an_export_goes_to_a_file_and_its_json_is_the_daemons() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("export.yaml");
    let daemon = Daemon::new();
    let finished = daemon.dpctl(&format!("export -o {}", file.display()));
    assert_eq!((finished.code, finished.out.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), answer(Operation::ConfigGet));
    assert_eq!(daemon.asked(), ["GET /v1/config?format=yaml"]);
    daemon.dpctl("export --json");
    assert_eq!(daemon.asked(), ["GET /v1/config?format=json"]);
    let finished = daemon.dpctl("export -o /nonexistent/export.yaml");
    assert_eq!(finished.code, 1);
    assert!(finished.err.starts_with("error: /nonexistent/export.yaml: "), "{}", finished.err);
}

#[test]
fn tables_fit_a_terminal_of_80_columns() {
    let daemon = Daemon::new();
    for object in [
        "status",
        "addr",
        "route -a",
        "neigh",
        "link",
        "-s link",
        "svc",
        "-s svc",
        "server",
        "-s server",
        "conn",
        "lip",
        "snat",
        "-s snat",
        "snat pools",
        "snat mappings",
        "dnat",
        "stats",
        "counters",
        "worker",
        "-s worker",
        "explain in wan0 from 192.0.2.1 to 203.0.113.10:80",
    ] {
        let finished = daemon.dpctl_on_terminal(object, 80);
        for line in finished.out.lines() {
            assert!(line.chars().count() <= 80, "{object}: {line}");
        }
    }
}

/// A reader that has seen enough.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let daemon = Daemon::new();
    let words = ["--socket".into(), daemon.socket().into(), "conn".into(), "list".into()];
    let build = ctl::Build { version: "1.2.3", commit: "" };
    let mut err = Vec::new();
    let code = ctl::run(build, &words, ctl::Terminal::default(), &mut Closed, &mut err);
    assert_eq!((code, err), (0, Vec::new()));
}

#[test]
fn completions_for_every_shell_can_be_made() {
    let daemon = Daemon::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let finished = daemon.dpctl(&format!("completion {shell}"));
        assert_eq!(finished.code, 0);
        assert!(finished.out.contains("neighbour"), "{shell}");
    }
    ctl::cli::command().debug_assert();
}
