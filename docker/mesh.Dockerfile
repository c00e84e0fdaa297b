# The whole firewall, for a host that shares its network and its processes with it (docs/docker.md says what that takes). From the
# root of the repository:
#
#   docker build -f docker/mesh.Dockerfile -t portmaster .
#
#   BASE      a Debian 12 or a relative of it; any tree will do that `docker import` took. What it lacks of PACKAGES is installed
#   RUST      what compiles, as old as BASE or older
#   NODE      what builds the web page
#   PROGRAMS  given: programs that are compiled already, in docker/programs (docs/docker.md); then RUST and NODE are not needed
ARG BASE=debian:12-slim
ARG RUST=rust:1.95-slim-bookworm
ARG NODE=node:22-bookworm-slim
ARG PROGRAMS=compiled

FROM ${NODE} AS page
WORKDIR /src
COPY . .
RUN scripts/web

FROM ${RUST} AS compiled
WORKDIR /src
COPY . .
COPY --from=page /src/target/web target/web
RUN cargo build --release --locked -p interceptor -p process-resolver -p policy -p dns -p gate17-entry -p api-gateway -p cli --bins \
    && install -D -t /programs target/release/portmaster target/release/portmaster-interceptor \
        target/release/portmaster-process-resolver target/release/portmaster-policy target/release/portmaster-dns \
        target/release/portmaster-gate17-entry target/release/portmaster-api-gateway

FROM ${BASE} AS given
COPY docker/programs /programs

FROM ${PROGRAMS} AS programs

FROM ${BASE}
LABEL org.opencontainers.image.title="Portmaster" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
ARG PACKAGES="iptables dbus ca-certificates"
# Only what is missing: a base that has all of it is built on without a network.
RUN missing=; for package in $PACKAGES; do dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"; done; \
    [ -z "$missing" ] || { apt-get update && apt-get install -y --no-install-recommends $missing && rm -rf /var/lib/apt/lists/*; }
# All together, since `portmaster up` finds its services beside it.
COPY --from=programs --chmod=755 /programs/ /usr/libexec/portmaster/
COPY config/profiles.d/ /usr/share/portmaster/profiles.d/
COPY --chmod=755 docker/mesh/start.sh /usr/libexec/portmaster/start
# The users that the rules of the bus name, though all services run as root here.
RUN ln -s /usr/libexec/portmaster/portmaster /usr/bin/portmaster \
    && install -d -m 755 /etc/portmaster/profiles.d \
    && groupadd --system portmaster \
    && for service in interceptor process-resolver policy dns gate17-entry api-gateway; do \
        useradd --system --groups portmaster --home-dir / --shell /usr/sbin/nologin "portmaster-$service"; \
    done
# `portmaster status` and the others inside find the mesh by this.
ENV PORTMASTER_ROOT=/var/lib/portmaster-up PORTMASTER_RUNTIME_DIR=/var/lib/portmaster-up/run/portmaster
VOLUME /var/lib/portmaster-up
# 3: a service is down. 1 is a problem that `portmaster status` names, and that does not get better by a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=40s --retries=3 \
    CMD ["sh", "-c", "portmaster status >/dev/null; [ $? -lt 2 ]"]
STOPSIGNAL SIGTERM
# root without root's privileges: see cap_add in compose.mesh.yaml, each with its reason.
ENTRYPOINT ["/usr/libexec/portmaster/start"]
