# The relay and nothing else: built by the workspace's toolchain, run without a shell, as nobody in particular.
#
#   docker build -t supernode .
#   docker run --network host -v supernode:/var/lib/supernode supernode
#
# `--network host`: the admin port is on loopback, and a relay's packets gain nothing from a NAT in front of it.

FROM docker.io/library/rust:1.91-slim-bookworm AS build
WORKDIR /src
COPY . .
# Everything is pinned by Cargo.lock. The C compiler that aws-lc needs is part of the image.
RUN cargo build --release --locked -p supernode-server --bin supernode \
    && strip target/release/supernode \
    && install -d -m 0700 /rootfs/var/lib/supernode

# glibc, certificates and the user 65532 ("nonroot").
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=65532:65532 /rootfs/var/lib/supernode /var/lib/supernode
COPY --from=build /src/target/release/supernode /usr/bin/supernode
USER 65532:65532
# Every command finds the keys in /var/lib/supernode.
ENV XDG_STATE_HOME=/var/lib
VOLUME /var/lib/supernode
# QUIC for everybody. The page, metrics and health (9464/tcp) are on the container's loopback only, as they ask for no
# password: publishing the port reaches nothing. With `--network host` they are on the host's loopback; else run what
# reads them in this container's network (`--network container:relay`), or put a proxy there that asks for a password.
EXPOSE 4433/udp
# SIGTERM drains.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/bin/supernode", "status"]
ENTRYPOINT ["/usr/bin/supernode"]
CMD ["serve"]
