#!/bin/sh
# What compose.network.yaml runs: `init` founds a network, `node` is one of its nodes, `client` a host that goes through it.
set -eu
network=${NETWORK:-/network}
node=/usr/libexec/portmaster/portmaster-gate17-node
# id, region, address, what it does: each is a family of its own
nodes="alpha se 10.17.0.2 relay
beta de 10.18.0.2 relay
gamma fr 10.19.0.2 relay
delta ch 10.20.0.2 exit
epsilon is 10.21.0.2 exit"

# A node's configuration, by what it does.
settings() {
    # by IPv4 alone: these networks have no other
    echo "listen = ['0.0.0.0:17', '0.0.0.0:80', '0.0.0.0:443']"
    [ "$1" != exit ] || echo "exit = [{ allow = true, to = '198.18.99.0/24', ports = '80,443' }]"
}

init() {
    if [ -e "$network/ready" ]; then
        echo "the network is there already"
        return
    fi
    rm -rf "${network:?}"/*
    # everybody goes through it, and looks into nothing but his own
    mkdir -p "$network"
    chmod 755 "$network"
    # nobody else needs the key that the network is signed by
    portmaster gate17 network init "$network/root" --name try
    echo "$nodes" | while read -r id region address does; do
        mkdir -p "$network/$id/etc" "$network/$id/state"
        settings "$does" >"$network/$id/etc/gate17-node.toml"
        "$node" --config-dir "$network/$id/etc" --state-dir "$network/$id/state" --print-descriptor >"$network/$id/descriptor.toml"
        portmaster gate17 node add "$network/root" --id "$id" --descriptor "$network/$id/descriptor.toml" \
            --address "$address:443" --region "$region" "--$does"
    done
    portmaster gate17 map sign "$network/root"
    for id in $(echo "$nodes" | cut -d ' ' -f 1) client; do
        mkdir -p "$network/$id/etc"
        cp "$network/root/trust.json" "$network/$id/etc/gate17-trust.json"
        cp "$network/root/map.json" "$network/$id/etc/gate17-map.json"
    done
    {
        echo "[[match]]"
        echo "path = \"/usr/bin/curl\""
        echo "[settings]"
        echo "default_action = \"tunnel\""
        echo "[tunnel]"
        echo "hops = 3"
    } >"$network/client/etc/curl.toml"
    chmod 700 "$network/root"
    for id in $(echo "$nodes" | cut -d ' ' -f 1); do
        chmod 700 "$network/$id"
        chown -R 65532:65532 "$network/$id"
    done
    touch "$network/ready"
}

case "${1:-}" in
init) init ;;
node)
    id=$(cat /etc/hostname)
    # its key is read where `init` made it; what a node keeps of maps is in memory
    mkdir -p /tmp/state/gate17-node
    cp "$network/$id/state/gate17-node/"*.pem /tmp/state/gate17-node/
    exec "$node" --config-dir "$network/$id/etc" --state-dir /tmp/state
    ;;
client)
    mkdir -p /etc/portmaster/profiles.d
    cp /usr/share/portmaster/profiles.d/*.toml "$network/client/etc/curl.toml" /etc/portmaster/profiles.d/
    cp "$network/client/etc/"gate17-*.json /etc/portmaster/
    exec /usr/libexec/portmaster/start
    ;;
*)
    echo "usage: network.sh init | node | client" >&2
    exit 64
    ;;
esac
