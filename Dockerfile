# syntax=docker/dockerfile:1
# One static program and nothing else: no shell, no libc, no package to patch. It needs no writable file and no privilege.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg REVISION="$(git rev-parse HEAD)" -t IMAGE .

# Runs on the builder's own architecture and compiles for the target's: no emulation. The version is that of
# rust-toolchain.toml.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95.0-slim-bookworm AS build
# The C parts of ring need a compiler that knows both architectures; the linker comes with Rust.
RUN apt-get update && apt-get install -y --no-install-recommends clang && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# What the image brings is what is used: no component for editors and lints is fetched.
ENV RUSTUP_TOOLCHAIN=1.95.0 \
    CC_x86_64_unknown_linux_musl=clang \
    CC_aarch64_unknown_linux_musl=clang \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="-Clinker=rust-lld -Clink-self-contained=yes" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="-Clinker=rust-lld -Clink-self-contained=yes"
ARG TARGETARCH
RUN case "$TARGETARCH" in \
        amd64) echo x86_64-unknown-linux-musl ;; \
        arm64) echo aarch64-unknown-linux-musl ;; \
        *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac > /target && rustup target add "$(cat /target)"
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

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="opportune" \
      org.opencontainers.image.description="Makes any Kubernetes workload use the directory, mail, analytics and storage of the cluster it lands in" \
      org.opencontainers.image.source="https://github.com/libresh/opportune" \
      org.opencontainers.image.documentation="https://github.com/libresh/opportune/blob/main/docs/install.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /opportune /opportune
COPY LICENSE /LICENSE
# By number, so that runAsNonRoot can be checked; there is no /etc/passwd.
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/opportune"]
CMD ["serve"]
