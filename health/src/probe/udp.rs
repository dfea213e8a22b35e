//! A datagram, and what answers it: something that is expected, or no ICMP error.

use config::{CheckType, Health, hex_pattern};

use super::{Answer, Fault, Target, socket};

/// Room for an answer; what is longer is compared as far as this.
const ANSWER_MAX: usize = 2_048;

/// Whether a server that says nothing is well.
pub(super) fn may_be_silent(check: &Health) -> bool {
    check.kind == CheckType::Udp && check.reply.is_none()
}

pub(super) async fn ask(target: &Target) -> Answer {
    let check = &target.check;
    let send: Vec<u8> =
        octets(check.send.as_deref(), false).iter().map(|(octet, _)| *octet).collect();
    let socket = socket::datagrams(target).await?;
    socket.send(&send).await?;
    let mut answer = vec![0; ANSWER_MAX];
    let len = socket.recv(&mut answer).await?;
    answer.truncate(len);
    let expected = match check.reply.as_deref() {
        None | Some("any") => Vec::new(),
        pattern => octets(pattern, true),
    };
    let same = |((expected, mask), octet): (&(u8, u8), &u8)| expected & mask == octet & mask;
    if len < expected.len() || !expected.iter().zip(&answer).all(same) {
        return Err(Fault::server(format!("another answer than expected, {len} octets")));
    }
    Ok(format!("answered, {len} octets"))
}

fn octets(text: Option<&str>, pattern: bool) -> Vec<(u8, u8)> {
    text.and_then(|text| hex_pattern(text, pattern)).unwrap_or_default()
}
