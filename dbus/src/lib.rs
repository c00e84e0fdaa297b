//! What the desktop sees: D-Bus interfaces, proxies and bus policy
