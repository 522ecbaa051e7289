# syntax=docker/dockerfile:1
# payoutd as one small image: `serve`, `migrate`, `sandbox` and `keys` are subcommands of the same program.

# The same Debian in both stages, so that the program finds the libc it was built against.
FROM rust:1.95-slim-bookworm AS build
# The C compiler is for aws-lc, which is built from source; it needs no cmake on the platforms we build for.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches are the builder's, not a layer: a change of ours rebuilds our crate and nothing else.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin payoutd \
    && install -D target/release/payoutd /out/payoutd

FROM debian:bookworm-slim
# The system's root certificates: TLS to Pike is checked against them.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin payoutd \
    && install --directory --owner=payoutd --group=payoutd --mode=0700 /keys
COPY --from=build /out/payoutd /usr/local/bin/payoutd
USER 10001
# API, webhooks, administration.
EXPOSE 8080 8081 8082
# The program asks itself, so that the image needs no other HTTP client.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["payoutd", "health", "--url", "http://127.0.0.1:8082/readyz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["payoutd"]
CMD ["serve", "--config", "/etc/payoutd/payoutd.toml"]
