//! What the desktop sees: D-Bus interfaces, proxies and bus policy.

mod event;
mod explanation;
mod proxies;

pub use event::ConnectionEvent;
pub use explanation::Explanation;
pub use proxies::{Interceptor1Proxy, Policy1Proxy, Service1Proxy};
