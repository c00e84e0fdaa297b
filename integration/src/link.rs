//! Cables between namespaces.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{namespace::Namespace, process::run};

/// One end's addresses; /24 and /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

/// A veth pair between two namespaces. It ends with either of them.
#[derive(Clone, Debug)]
pub struct Link {
    /// Name of the interface, the same at both ends.
    pub interface: String,
    /// Addresses of the first namespace.
    pub a: End,
    /// Addresses of the second.
    pub b: End,
}

impl Namespace {
    /// Joins two namespaces: `10.17.<n>.1` and `fd17:<n>::1` at `a`, `.2` at `b`, n growing with each link of this test.
    ///
    /// # Panics
    /// If a command fails.
    pub fn connect(a: &Self, b: &Self) -> Link {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let end = |last: u8| End {
            v4: Ipv4Addr::new(10, 17, number.to_be_bytes()[3], last),
            v6: Ipv6Addr::new(0xfd17, number.to_be_bytes()[3].into(), 0, 0, 0, 0, 0, last.into()),
        };
        let interface = format!("veth{number}");
        // Made by a command that stands in `a`: no interface appears in the machine's own namespace, not even for a moment.
        let peer = ["peer", "name", &interface, "netns", b.name()];
        run(Command::new("ip")
            .args(["-n", a.name(), "link", "add", &interface, "type", "veth"])
            .args(peer));
        let link = Link {
            interface,
            a: end(1),
            b: end(2),
        };
        // Both up first: an IPv6 address given to an interface without carrier takes two seconds to work.
        for namespace in [a, b] {
            run(Command::new("ip").args(["-n", namespace.name(), "link", "set", &link.interface, "up"]));
        }
        give(a, &link.interface, link.a);
        give(b, &link.interface, link.b);
        link
    }

    /// Gives this namespace one more address on `lo`.
    ///
    /// # Panics
    /// If a command fails.
    pub fn add_address(&self, address: impl Into<std::net::IpAddr>) {
        let address = address.into();
        let length = if address.is_ipv4() { 32 } else { 128 };
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let mut command = Command::new("ip");
        command.args([
            family,
            "-n",
            self.name(),
            "address",
            "add",
            &format!("{address}/{length}"),
            "dev",
            "lo",
        ]);
        if address.is_ipv6() {
            command.arg("nodad");
        }
        run(&mut command);
    }

    /// Sends what has no other route to the other end of `link`, for both families.
    ///
    /// # Panics
    /// If a command fails.
    pub fn default_route(&self, via: End) {
        run(Command::new("ip").args([
            "-n",
            self.name(),
            "route",
            "add",
            "default",
            "via",
            &via.v4.to_string(),
        ]));
        run(Command::new("ip").args([
            "-6",
            "-n",
            self.name(),
            "route",
            "add",
            "default",
            "via",
            &via.v6.to_string(),
        ]));
    }
}

fn give(namespace: &Namespace, interface: &str, end: End) {
    let ip = || {
        let mut command = Command::new("ip");
        command.args(["-n", namespace.name()]);
        command
    };
    run(ip().args(["address", "add", &format!("{}/24", end.v4), "dev", interface]));
    // No duplicate address detection: the address is usable at once.
    run(ip().args([
        "address",
        "add",
        &format!("{}/64", end.v6),
        "dev",
        interface,
        "nodad",
    ]));
}
