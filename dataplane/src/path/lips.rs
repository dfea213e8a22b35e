//! Which LIP of a service a new conn gets its port from.

use pool::LeaseError;

/// LIPs that are tried for one conn before the client is refused; the next conn goes on from there.
const LIPS_TRIED: usize = 64;

/// Leases a port of one of the service's LIPs, going on behind the one that was tried last: so that
/// all come to be used, and those that are exhausted do not hide the others.
pub(super) fn lease<A: Copy>(
    lips: &[A],
    next: &mut u32,
    mut take: impl FnMut(A) -> Result<u16, LeaseError>,
) -> Option<(A, u16)> {
    let start = (*next as usize).checked_rem(lips.len())?;
    let (before, from) = lips.split_at_checked(start)?;
    for &lip in from.iter().chain(before).take(LIPS_TRIED) {
        *next = next.wrapping_add(1);
        match take(lip) {
            Ok(lport) => return Some((lip, lport)),
            Err(LeaseError::Exhausted) => {}
            Err(_) => return None,
        }
    }
    None
}
