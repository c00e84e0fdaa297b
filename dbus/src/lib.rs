//! What the desktop sees: D-Bus interfaces, proxies and bus policy.

mod dns_query;
mod event;
mod explanation;
mod proxies;

pub use dns_query::DnsQuery;
pub use event::ConnectionEvent;
pub use explanation::Explanation;
pub use proxies::{Dns1Proxy, Interceptor1Proxy, Policy1Proxy, Service1Proxy};
