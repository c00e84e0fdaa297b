#!/usr/bin/python3
"""Prints connections as the desktop bus tells of them. For root and members of group portmaster.

Usage: subscriber.py [--count N]
"""

import argparse
import ipaddress

import dbus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

KINDS = {1: "decided", 2: "redecided", 3: "ended"}
VERDICTS = {1: "allow", 2: "block", 3: "drop", 4: "tunnel", 5: "redirect-dns"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=0, help="end after so many events [default: never]")
    args = parser.parse_args()
    DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    seen = 0

    def changed(events, dropped):
        nonlocal seen
        if dropped:
            print(f"{dropped} events were lost")
        for event in events:
            # docs/events.md, and the introspection of org.portmaster.Interceptor1, name the fields
            (kind, _, _, _, _, _, (address, port), _, _, _, executable, _, domain, verdict, _, why, *_) = event
            where = domain or ipaddress.ip_address(bytes(address))
            print(
                f"{KINDS.get(int(kind), '?'):9} {VERDICTS.get(int(verdict), '?'):6} {executable or '?'} -> {where}:{port} ({why})",
                flush=True,
            )
            seen += 1
            if args.count and seen >= args.count:
                loop.quit()
                return

    dbus.SystemBus().add_signal_receiver(
        changed, signal_name="ConnectionsChanged", dbus_interface="org.portmaster.Interceptor1"
    )
    print("listening", flush=True)
    loop.run()


if __name__ == "__main__":
    main()
