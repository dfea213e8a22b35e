//! Whom the daemon obeys: root, its own user, and the group `dpnat`.
//!
//! The socket's mode says the same; this holds where a mode was changed or the file was handed on.

use std::os::unix::fs::MetadataExt;

const GROUP: &str = "dpnat";

/// The users and the group that are trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    users: Vec<u32>,
    group: Option<u32>,
}

impl Trusted {
    /// As this machine's user database has it now.
    pub(super) fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let own = std::fs::metadata("/proc/self").map(|process| process.uid()).unwrap_or(0);
        Self::of(&read("/etc/passwd"), &read("/etc/group"), own)
    }

    fn of(passwd: &str, groups: &str, own: u32) -> Self {
        let mut users = vec![0, own];
        let mut group = None;
        for fields in groups.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
            let [name, _, gid, members] = fields[..] else { continue };
            if name == GROUP {
                group = gid.parse().ok();
                users.extend(members.split(',').filter_map(|member| uid(passwd, member)));
            }
        }
        Self { users, group }
    }

    /// The group that the socket belongs to, if there is one.
    pub(super) fn group(&self) -> Option<u32> {
        self.group
    }

    /// Whether a client with these credentials is trusted.
    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        self.users.contains(&uid) || self.group == Some(gid)
    }
}

fn uid(passwd: &str, name: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_group_are_trusted() {
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:\nbob:x:1001:1001::/:\n";
        let trusted = Trusted::of(passwd, "users:x:100:bob\ndpnat:x:900:alice,ghost\n", 500);
        assert_eq!(trusted.group(), Some(900));
        for (uid, gid, allowed) in [
            (0, 0, true),
            (500, 1, true),
            (1000, 1000, true),
            (1001, 900, true),
            (1001, 1001, false),
        ] {
            assert_eq!(trusted.allows(uid, gid), allowed, "{uid}:{gid}");
        }
    }

    #[test]
    fn without_the_group_only_root_and_we_are() {
        let trusted = Trusted::of("", "", 500);
        assert!(trusted.allows(0, 7) && trusted.allows(500, 7) && !trusted.allows(7, 0));
    }
}
