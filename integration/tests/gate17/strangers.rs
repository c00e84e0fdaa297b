//! Who calls the entry and was not sent there by our rules: nobody is carried, and it is counted.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

use integration::eventually;

use crate::{
    carried::ECHO,
    circuits::{PORT, Place, output},
    datagrams::counted,
    network::server,
};

/// An address of the host that others send to the entry: for a rule of somebody else's.
const LENT: Ipv4Addr = Ipv4Addr::new(198, 18, 99, 99);

/// Prints how a call ended; never `carried`, if it is well.
const CALL: &str = "
import socket, sys
host, port = sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, getattr(socket, 'SOCK_' + sys.argv[1]))
s.settimeout(3)
try:
    s.connect((host, port))
    for _ in range(3):
        s.send(b'hello\\n')
        said = s.recv(100)
    print('carried' if said else 'ended')
except TimeoutError:
    print('silence')
except OSError as error:
    print(type(error).__name__)
";

fn calls(mut command: Command, kind: &str, to: IpAddr, port: u16) -> String {
    let said = output(command.args(["-c", CALL, kind, &to.to_string(), &port.to_string()]));
    said.trim().to_owned()
}

#[test]
fn nobody_is_carried_whom_our_rules_did_not_send() {
    let place = Place::new("g17-strangers");
    let world = &place.world;
    world.profile("global", "[settings]\nblock_incoming = false\n");
    // somebody is carried: that it could be is no question
    place.wait_until_carried(&place.app("app", "hops = 1\n"));
    let python = |namespace: &integration::Namespace| namespace.command("python3");
    let sent = || place.told("status").remove(0)["streams_now"].as_u64().unwrap();
    let before = |name| counted(&place, name);

    // a program that is not tunnelled calls by itself
    let entry = [
        Ipv4Addr::new(127, 0, 0, 17).into(),
        IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    ];
    for (number, to) in (1..).zip(entry) {
        assert_eq!(
            calls(python(&world.host), "STREAM", to, 717),
            "ConnectionResetError"
        );
        assert_eq!(before("connections_of_strangers"), number, "{to}");
        assert_eq!(calls(python(&world.host), "DGRAM", to, 717), "silence");
        assert!(before("datagrams_of_strangers") >= number, "{to}");
    }

    // a rule of somebody else's sends what is let pass: to where its program wanted, or nowhere
    let mut udp = world.internet.command("python3");
    udp.args(["-c", ECHO, &server(PORT).ip().to_string()]);
    let _udp = integration::Running::start_logged("echo", udp, &world.root().join("echo.log"));
    assert_eq!(
        calls(python(&world.host), "STREAM", server(PORT).ip(), PORT),
        "carried",
        "directly"
    );
    world.host.sh(&format!(
        "nft -f - <<'END'
table ip foreign {{
    chain out {{
        type nat hook output priority -110;
        ip daddr {server} meta l4proto {{ tcp, udp }} dnat to 127.0.0.17:717
    }}
    chain in {{
        type nat hook prerouting priority -110;
        ip daddr {LENT} meta l4proto {{ tcp, udp }} dnat to 127.0.0.17:717
    }}
}}
END
echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet",
        server = server(PORT).ip()
    ));
    let strangers = before("connections_of_strangers");
    assert_eq!(
        calls(python(&world.host), "STREAM", server(PORT).ip(), PORT),
        "ConnectionResetError"
    );
    assert_eq!(before("connections_of_strangers"), strangers + 1);
    assert_eq!(
        calls(python(&world.host), "DGRAM", server(7002).ip(), 7002),
        "silence"
    );

    // and so from another host, which such a rule lets in
    world.host.add_address(LENT);
    world
        .internet
        .sh(&format!("ip route add {LENT} via {}", world.link.a.v4));
    let said = eventually("others get as far as to the entry", || {
        let said = calls(python(&world.internet), "STREAM", LENT.into(), 717);
        assert_ne!(said, "carried");
        (before("connections_of_strangers") > strangers + 1).then_some(said)
    });
    assert_eq!(said, "ConnectionResetError");
    assert_eq!(
        calls(python(&world.internet), "DGRAM", LENT.into(), 717),
        "silence"
    );
    assert_eq!(sent(), 0, "no stream was opened for any of them");
}
