//! Netlink sockets and attributes, shared by the packet path and attribution
