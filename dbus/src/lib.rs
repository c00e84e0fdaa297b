//! What the desktop sees: D-Bus interfaces, proxies and bus policy.

mod dns_query;
mod dns_upstream;
mod event;
mod explanation;
mod gate17;
mod proxies;

pub use dns_query::DnsQuery;
pub use dns_upstream::DnsUpstream;
pub use event::ConnectionEvent;
pub use explanation::Explanation;
pub use gate17::{Gate17Circuit, Gate17Node};
pub use proxies::{Dns1Proxy, Gate17Entry1Proxy, Interceptor1Proxy, Policy1Proxy, Service1Proxy};
