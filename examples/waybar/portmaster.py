#!/usr/bin/python3
"""A module for waybar: how many connections were refused in the last ten minutes, and which was the last.

    "custom/portmaster": { "exec": "~/.config/waybar/portmaster.py", "return-type": "json" }
"""

import collections
import ipaddress
import json
import os
import time

import dbus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

REFUSED = {2: "blocked", 3: "dropped"}
DECIDED = (1, 2)
KEPT_SECONDS = 600
NAME, PATH = "org.portmaster.Interceptor1", "/org/portmaster/Interceptor1"


class Module:
    def __init__(self, bus):
        self.bus = bus
        self.refused = collections.deque()
        self.printed = None
        bus.add_signal_receiver(self.changed, signal_name="ConnectionsChanged", dbus_interface=NAME)
        bus.watch_name_owner(NAME, self.owner_changed)
        GLib.timeout_add_seconds(5, self.tick)

    def owner_changed(self, owner):
        self.runs = bool(owner)
        self.show()

    def changed(self, events, _dropped):
        for event in events:
            (kind, _, _, _, _, _, (address, port), _, _, _, executable, _, domain, verdict, _, why, *_) = event
            if int(kind) in DECIDED and int(verdict) in REFUSED:
                where = domain or ipaddress.ip_address(bytes(address))
                program = os.path.basename(executable) or "an unknown program"
                text = f"{program} to {where}:{port} {REFUSED[int(verdict)]} ({why})"
                self.refused.append((time.monotonic(), text))
        self.show()

    def tick(self):
        self.show()
        return True

    def show(self):
        while self.refused and self.refused[0][0] < time.monotonic() - KEPT_SECONDS:
            self.refused.popleft()
        if not self.runs:
            line = {"text": "firewall off", "class": "off", "tooltip": "portmaster start"}
        else:
            count = len(self.refused)
            tooltip = "\n".join(text for _, text in list(self.refused)[-10:]) or "nothing was refused lately"
            line = {"text": str(count), "class": "refused" if count else "quiet", "tooltip": tooltip}
        if line != self.printed:
            self.printed = line
            print(json.dumps(line), flush=True)


DBusGMainLoop(set_as_default=True)
Module(dbus.SystemBus())
GLib.MainLoop().run()
