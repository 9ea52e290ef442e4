# bearerd and nothing else: one static binary that runs as a user without a name, in a root that may be read-only.
FROM rust:1.95-alpine AS build
# jemalloc is built by make; the image has a C compiler.
RUN apk add --no-cache make musl-dev
WORKDIR /src
COPY . .
# Alpine's own target is musl, which Rust links statically.
RUN cargo build --release --locked && cp target/release/bearerd /bearerd

FROM scratch
LABEL org.opencontainers.image.title="bearerd" \
      org.opencontainers.image.description="Keeps Google credentials out of applications and puts fresh tokens on their requests" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/bearerd/bearerd" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /bearerd /bearerd
# A number: kubelet cannot tell from a name that it is not root.
USER 14180:14180
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bearerd"]
