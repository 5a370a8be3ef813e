//! Requests to other machines, by one blocking client.
//!
//! A request is sent once: whoever sends it decides whether to try again, which [`Reply::is_transient`] and
//! [`Failure`] tell. Redirects are not followed, because credentials would be sent along; answers are read up to a
//! limit; and no message shows what was said to be a secret, even if a receiver repeats it.
//!
//! TLS is rustls with ring, which is compiled for every platform without CMake, and trusts what the system trusts, so that
//! a proxy's own authority works. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod client;
mod message;

pub use client::{Client, Failure, Reply, Request};
