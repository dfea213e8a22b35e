//! The control API's types, its client and its OpenAPI description.
#![forbid(unsafe_code)]
