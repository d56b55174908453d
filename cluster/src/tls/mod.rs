//! Owns who a node is to its peers' TLS: the cluster's authorities, the certificates they sign, and the file that keeps them.
//! Does not own sockets. Invariant: peers are known by certificates that name cluster and node; there is no plain link.

mod authority;
mod credentials;
mod session;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Pin, TlsError, check_request, new_key, request};
pub use credentials::{Credentials, CredentialsError};
pub use session::{Identities, joiner_config, node_name};
