//! A program that says how a server is: 0 is well.
//!
//! It has another user than the daemon, no privileges, no shell and nothing of the daemon's environment. The
//! memory of the daemon is not copied for it (`posix_spawn`, not `fork`): workers would pay for that with page
//! faults. So `setpriv` of util-linux, which the kernel starts, becomes that user and then the program.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::{Answer, Fault, Target};

/// Programs that run at once.
const AT_ONCE: usize = 32;
/// Who runs them if nobody is named.
const USER: &str = "nobody";
/// By its full path: what has to be looked for is not started by `posix_spawn`.
const SETPRIV: &str = "/usr/bin/setpriv";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn run(target: &Target) -> Answer {
    static ROOM: Semaphore = Semaphore::const_new(AT_ONCE);
    let local = |why: String| Fault::Local(why);
    let Some((program, arguments)) = target.check.command.split_first() else {
        return Err(local("there is no command".to_owned()));
    };
    is_safe(Path::new(program))?;
    let mut command = as_user(target.check.user.as_deref(), program)?;
    command.args(arguments).env_clear().env("PATH", PATH);
    command.env("DPNAT_SERVER_ADDRESS", target.server.address.to_string());
    command.env("DPNAT_SERVER_PORT", target.server.l4_port.0.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0);
    let _room = ROOM.acquire().await.map_err(|error| local(error.to_string()))?;
    let spawned = command.spawn().map_err(|error| {
        let started = command.as_std().get_program().to_string_lossy().into_owned();
        local(format!("{started}: {}", super::plain(&error)))
    });
    let mut child = spawned?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
    let status = child.wait().await?;
    group.0 = None;
    judged(status)
}

/// Ends what still runs, with all that it has started.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended in this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// `setpriv` cannot tell that there is no such program but by these.
const CANNOT_RUN: [i32; 2] = [126, 127];

fn judged(status: ExitStatus) -> Answer {
    match status.code() {
        Some(0) => Ok("exit status 0".to_owned()),
        Some(code) if CANNOT_RUN.contains(&code) => {
            Err(Fault::Local(format!("exit status {code}: the program cannot be run")))
        }
        Some(code) => Err(Fault::server(format!("exit status {code}"))),
        None => Err(Fault::server("ended by a signal")),
    }
}

/// Whoever may change a program that root starts is root. Only root and the daemon's own user may.
fn is_safe(program: &Path) -> Result<(), Fault> {
    let own = geteuid().as_raw();
    let whole = program.canonicalize();
    let whole: PathBuf = whole.map_err(|error| {
        Fault::Local(format!("{}: {}", program.display(), super::plain(&error)))
    })?;
    for part in whole.ancestors() {
        let Ok(found) = part.metadata() else { continue };
        let (mode, sticky) = (found.mode(), found.is_dir() && found.mode() & 0o1000 != 0);
        let by_others = mode & 0o022 != 0 && !sticky || ![0, own].contains(&found.uid());
        if by_others {
            let why = format!("{} may be changed by others than root", part.display());
            return Err(Fault::Local(why));
        }
    }
    Ok(())
}

fn as_user(user: Option<&str>, program: &str) -> Result<Command, Fault> {
    let own = geteuid();
    let name = user.unwrap_or(USER);
    if !own.is_root() {
        // It cannot become another: it runs as the daemon does, unless that is not what is asked for.
        let known = user.map(|user| ids(user).map(|(uid, _)| uid));
        return match known {
            None => Ok(Command::new(program)),
            Some(Some(uid)) if uid == own.as_raw() => Ok(Command::new(program)),
            _ => Err(Fault::Local(format!("the daemon is not root: it cannot become `{name}`"))),
        };
    }
    let (uid, gid) = ids(name).ok_or_else(|| Fault::Local(format!("there is no user `{name}`")))?;
    let mut command = Command::new(SETPRIV);
    command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
    command.args(["--clear-groups", "--no-new-privs", "--", program]);
    Ok(command)
}

/// The numbers of a user and his group, of this machine's own users.
fn ids(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&name))?;
    Some((found.get(2)?.parse().ok()?, found.get(3)?.parse().ok()?))
}
