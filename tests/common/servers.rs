//! Unmodified servers in a namespace: nginx, Caddy, and small ones in Python and Node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lab::Lab;
use super::namespace::Namespace;
use super::process::{Running, wait_until};

/// nginx on port 80.
///
/// `/` answers `<name> <address and port of its peer>`, `/files/` gives what is in [`Nginx::files`], and
/// PUT below `/uploads/` stores there.
pub struct Nginx {
    #[expect(dead_code, reason = "runs as long as this lives")]
    process: Running,
    /// Where it reads files from and writes uploads to.
    pub files: PathBuf,
    access_log: PathBuf,
    proxied_log: PathBuf,
}

impl Nginx {
    /// Starts one in a real server, by its index, and waits until it listens.
    #[track_caller]
    pub fn start(lab: &Lab, index: usize) -> Self {
        let name = format!("rs{}", index + 1);
        Self::start_in(lab, &lab.servers[index], &name, &lab.server_address(index))
    }

    /// Starts one in a namespace; it is asked at `address` whether it listens.
    #[track_caller]
    pub fn start_in(lab: &Lab, server: &Namespace, name: &str, address: &str) -> Self {
        let dir = lab.path(&format!("nginx-{name}"));
        let files = dir.join("www");
        fs::create_dir_all(files.join("files")).unwrap();
        fs::create_dir_all(files.join("uploads")).unwrap();
        let access_log = dir.join("access.log");
        let conf = dir.join("nginx.conf");
        fs::write(&conf, CONF.replace("@dir@", &dir.display().to_string()).replace("@name@", name))
            .unwrap();
        server.sysctl("net.core.somaxconn", "16384");
        server.sysctl("net.ipv4.tcp_max_syn_backlog", "16384");
        let mut command = server.command("nginx");
        command.arg("-e").arg(dir.join("error.log"));
        command.arg("-p").arg(&dir).arg("-c").arg(&conf).args(["-g", "daemon off;"]);
        let mut process = Running::start(&mut command, &lab.dir, &format!("nginx-{name}"));
        wait_until("nginx answers", Duration::from_secs(10), || {
            assert_eq!(process.ended(), None, "nginx: {}", process.log());
            server.run("curl", &["-sf", "-o", "/dev/null", &format!("http://{address}/ready")]).code
                == 0
        });
        fs::write(&access_log, "").unwrap();
        let proxied_log = dir.join("proxied.log");
        Self { process, files, access_log, proxied_log }
    }

    /// One for each real server of the lab.
    pub fn start_all(lab: &Lab) -> [Self; 2] {
        [Self::start(lab, 0), Self::start(lab, 1)]
    }

    /// Requests that it answered, as lines `<peer's address>:<port> <method> <path> <status>`.
    pub fn requests(&self) -> Vec<String> {
        fs::read_to_string(&self.access_log).unwrap().lines().map(str::to_owned).collect()
    }

    /// Requests that came behind a header of the PROXY protocol, as lines of the client's address and port by it, and
    /// the peer's address.
    pub fn proxied(&self) -> Vec<String> {
        fs::read_to_string(&self.proxied_log).unwrap().lines().map(str::to_owned).collect()
    }
}

/// `haproxy` that listens for the PROXY protocol: on port 82 it tells each client by HTTP who it is and whom it has
/// connected to; what comes in on port 83 goes on to port 8300 of the loopback address.
#[track_caller]
pub fn haproxy(lab: &Lab, server: &Namespace) -> Running {
    let conf = lab.path("haproxy.cfg");
    fs::write(&conf, HAPROXY).unwrap();
    let mut command = server.command("haproxy");
    command.args(["-db", "-f"]).arg(&conf);
    let mut process = Running::start(&mut command, &lab.dir, "haproxy");
    wait_until("haproxy listens", Duration::from_secs(10), || {
        assert_eq!(process.ended(), None, "haproxy: {}", process.log());
        server.run("ss", &["-Hltn", "sport = :83"]).stdout.contains(":83")
    });
    process
}

const HAPROXY: &str = r#"
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend who
  mode http
  bind :::82 v4v6 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%ci %cp %fi %fp\n"
frontend talk
  mode tcp
  bind :::83 v4v6 accept-proxy
  default_backend talker
backend talker
  mode tcp
  server talker 127.0.0.1:8300 send-proxy
"#;

/// A server in Python, Node or Go that tells each client who it is, as the kernel tells it.
pub struct Who {
    #[expect(dead_code, reason = "runs as long as this lives")]
    process: Running,
}

impl Who {
    /// Python on pairs of a family (`v4`, `v6` for both, `mptcp`) and a port.
    #[track_caller]
    pub fn python(lab: &Lab, server: &Namespace, listeners: &[&str]) -> Self {
        Self::start(lab, server, "python3", "who.py", listeners)
    }

    /// Python for datagrams, on pairs of a family (`v4`, `v6` for both) and a port.
    #[track_caller]
    pub fn udp(lab: &Lab, server: &Namespace, sockets: &[&str]) -> Self {
        Self::start(lab, server, "python3", "who_udp.py", sockets)
    }

    /// Node, by HTTP.
    #[track_caller]
    pub fn node(lab: &Lab, server: &Namespace, port: &str) -> Self {
        Self::start(lab, server, "node", "who.js", &[port])
    }

    /// Caddy, which is written in Go, by HTTP on a socket of both families.
    #[track_caller]
    pub fn caddy(lab: &Lab, server: &Namespace, port: &str) -> Self {
        let dir = lab.path("caddy");
        fs::create_dir_all(&dir).unwrap();
        let conf = dir.join("Caddyfile");
        fs::write(&conf, CADDYFILE.replace("@port@", port)).unwrap();
        let mut command = server.command("caddy");
        command.env("HOME", &dir).args(["run", "--adapter", "caddyfile", "--config"]).arg(&conf);
        let mut process = Running::start(&mut command, &lab.dir, "caddy");
        process.wait_for_log("serving initial configuration", Duration::from_secs(20));
        Self { process }
    }

    #[track_caller]
    fn start(lab: &Lab, server: &Namespace, program: &str, script: &str, words: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
        let mut command = server.command(program);
        command.arg(script).args(words);
        let mut process = Running::start(&mut command, &lab.dir, program);
        process.wait_for_log("listening", Duration::from_secs(20));
        Self { process }
    }
}

const CADDYFILE: &str = r#"
{
  admin off
  auto_https off
}
http://:@port@ {
  respond "Your remote_addr and remote_port is {remote}
"
}
"#;

const CONF: &str = r#"
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid @dir@/nginx.pid;
error_log @dir@/error.log warn;
events { worker_connections 19000; }
http {
  log_format peer '$remote_addr:$remote_port $request_method $uri $status';
  log_format proxied '$proxy_protocol_addr $proxy_protocol_port $remote_addr';
  access_log @dir@/access.log peer;
  client_body_temp_path @dir@/body;
  proxy_temp_path @dir@/proxy;
  fastcgi_temp_path @dir@/fastcgi;
  uwsgi_temp_path @dir@/uwsgi;
  scgi_temp_path @dir@/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000;
  sendfile on;
  server {
    listen 80 backlog=16384;
    listen [::]:80 backlog=16384;
    listen [::]:8080 ipv6only=off;
    root @dir@/www;
    location / { return 200 "@name@ $remote_addr:$remote_port\n"; }
    location = /who { return 200 "Your remote_addr and remote_port is $remote_addr:$remote_port\n"; }
    location = /ready { access_log off; return 204; }
    location = /quiet { access_log off; return 200 "@name@\n"; }
    location /files/ { }
    location /uploads/ { dav_methods PUT; create_full_put_path on; }
  }
  server {
    listen 86 proxy_protocol backlog=16384;
    listen [::]:86 proxy_protocol backlog=16384;
    access_log @dir@/proxied.log proxied;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port\n"; }
    location /uploads/ { root @dir@/www; dav_methods PUT; create_full_put_path on; }
  }
}
"#;
