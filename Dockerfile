# syntax=docker/dockerfile:1
# One program, linked with Debian's C library as everything that is measured and tested is
# (docs/adr/0011-allocator-and-image.md): no shell, no package manager. It needs no writable file and no privilege.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg REVISION="$(git rev-parse HEAD)" -t IMAGE .

# Runs on the builder's own architecture and compiles for the target's: no emulation. The version is that of
# rust-toolchain.toml, and the Debian that of the image below.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95.0-slim-bookworm AS build
WORKDIR /src
# What the image brings is what is used: no component for editors and lints is fetched.
ENV RUSTUP_TOOLCHAIN=1.95.0 \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
ARG BUILDARCH
ARG TARGETARCH
# For another architecture, its compiler and C library: for the linker, and for the C parts of ring.
RUN case "$TARGETARCH" in \
        amd64) target=x86_64-unknown-linux-gnu compiler=gcc-x86-64-linux-gnu ;; \
        arm64) target=aarch64-unknown-linux-gnu compiler=gcc-aarch64-linux-gnu ;; \
        *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && echo "$target" > /target && rustup target add "$target" \
    && if [ "$TARGETARCH" != "$BUILDARCH" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends "$compiler" "libc6-dev-$TARGETARCH-cross" \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY Cargo.toml Cargo.lock ./
COPY core ./core
COPY src ./src
# Members of the workspace: cargo wants to see them all, and builds neither.
COPY benches ./benches
COPY e2e ./e2e
# The program holds the chart's webhooks, so that both register the same.
COPY manifests ./manifests
# Shown in the metric opportune_build_info.
ARG REVISION=unknown
# The caches outlive a build; the program is copied out of them. One target folder for each architecture, as two may be
# built at once.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=opportune-target-$TARGETARCH,target=/src/target \
    OPPORTUNE_REVISION=$REVISION cargo build --release --locked --bin opportune --target "$(cat /target)" \
    && cp "target/$(cat /target)/release/opportune" /opportune

# The C library and what comes with it, and no program.
FROM gcr.io/distroless/cc-debian12
ARG REVISION=unknown
LABEL org.opencontainers.image.title="opportune" \
      org.opencontainers.image.description="Makes any Kubernetes workload use the directory, mail, analytics and storage of the cluster it lands in" \
      org.opencontainers.image.source="https://github.com/libresh/opportune" \
      org.opencontainers.image.documentation="https://github.com/libresh/opportune/blob/main/docs/install.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /opportune /opportune
COPY LICENSE /LICENSE
# By number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/opportune"]
CMD ["serve"]
