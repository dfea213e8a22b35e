//! DPDK's return codes and C strings in Rust's terms.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;

/// What `rte_errno` of this thread says.
pub(crate) fn last_error() -> io::Error {
    // SAFETY: reads a thread-local integer.
    io::Error::from_raw_os_error(unsafe { dpdk_sys::dpnat_errno() })
}

/// A DPDK call that gives 0 or a negative errno (-1 leaves it in `rte_errno`).
pub(crate) fn check(code: c_int) -> Result<(), io::Error> {
    match code {
        0.. => Ok(()),
        -1 if last_error().raw_os_error() != Some(0) => Err(last_error()),
        _ => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// The text as C wants it; a NUL inside ends it.
pub(crate) fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

/// The text of a C string that DPDK owns; empty for a null pointer.
///
/// # Safety
/// `text` is null or points to a terminated string that lives through the call.
pub(crate) unsafe fn owned_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null; the caller answers for the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The text of a fixed array that C has terminated.
pub(crate) fn array_text(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
