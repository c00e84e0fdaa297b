//! The firewall's rules as values, and their text for iptables-restore.
