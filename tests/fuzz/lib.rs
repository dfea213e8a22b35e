//! What the fuzz targets assert, as plain functions of bytes: libFuzzer calls them with inputs that
//! it makes up (`make fuzz`), a test with those in `corpus/`.
//!
//! A function panics if a promise is broken. That it returns at all is one of them.
#![forbid(unsafe_code)]

#[path = "../../dataplane/tests/path/bed/mod.rs"]
#[allow(dead_code, reason = "the rest of it is for the path tests")]
mod bed;
mod choices;
mod conf;
mod parse;
mod parse6;
mod path;
mod proto;

pub use conf::conf;
pub use parse::parse;
pub use path::path;
pub use proto::proto;
