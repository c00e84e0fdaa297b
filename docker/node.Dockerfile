# A Gate17 node, and the command line that makes a network of them. From the root of the repository:
#
#   docker build -f docker/node.Dockerfile -t portmaster-gate17-node .
#
#   BASE      a Debian 12 or a relative of it; any tree will do that `docker import` took
#   RUST      what compiles, as old as BASE or older
#   PROGRAMS  given: programs that are compiled already, in docker/programs (docs/docker.md); then RUST is not needed
ARG BASE=debian:12-slim
ARG RUST=rust:1.95-slim-bookworm
ARG PROGRAMS=compiled

FROM ${RUST} AS compiled
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p gate17-node -p cli --bins \
    && install -D -t /programs target/release/portmaster target/release/portmaster-gate17-node

FROM ${BASE} AS given
COPY docker/programs /programs

FROM ${PROGRAMS} AS programs

FROM ${BASE}
LABEL org.opencontainers.image.title="Portmaster: Gate17 node" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# Its state is its key: on a volume, and for it alone. The rest is never written.
RUN install -d -o 65532 -g 65532 -m 700 /var/lib/portmaster /var/lib/portmaster/gate17-node \
    && install -d -o 65532 -g 65532 -m 755 /run/portmaster-gate17-node \
    && install -d -m 755 /etc/portmaster
COPY --from=programs --chmod=755 /programs/portmaster /usr/bin/portmaster
COPY --from=programs --chmod=755 /programs/portmaster-gate17-node /usr/libexec/portmaster/portmaster-gate17-node
# Where its figures are written, as under systemd.
ENV RUNTIME_DIRECTORY=/run/portmaster-gate17-node
# Nobody's number: no user of the base, and none of the host.
USER 65532:65532
VOLUME /var/lib/portmaster/gate17-node
EXPOSE 17/tcp 80/tcp 443/tcp
# It gives whoever says nothing a quote (RFC 865), as long as it works.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 \
    CMD ["timeout", "8", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/17 && head -c 1 <&3 | grep -q ."]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/libexec/portmaster/portmaster-gate17-node"]
