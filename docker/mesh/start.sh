#!/bin/sh
# Starts the mesh. `portmaster up` is its supervisor: it starts the services in order, starts a crashed one again, and at the end
# takes the rules away.
set -eu
profiles=/etc/portmaster/profiles.d
# a configuration of one's own that has no profiles yet gets those that are shipped, where it may be written
if [ -w /etc/portmaster ] && [ -z "$(ls -A "$profiles" 2>/dev/null)" ]; then
    mkdir -p "$profiles"
    cp /usr/share/portmaster/profiles.d/*.toml "$profiles/"
fi
exec portmaster up --root "$PORTMASTER_ROOT" --config /etc/portmaster "$@"
