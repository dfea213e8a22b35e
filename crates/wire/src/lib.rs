//! Header views, checksums and builders of replies.
#![forbid(unsafe_code)]
