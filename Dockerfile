# Weighhouse, with PostgreSQL beside it (docker-compose.yml) or embedded (no REGISTRY_DATABASE_URL).
FROM node:24-bookworm-slim AS build
WORKDIR /weighhouse
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.src.json ./
COPY bin bin
COPY src src
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
ENV NODE_ENV=production REGISTRY_LISTEN=0.0.0.0:5000 REGISTRY_DATA_DIR=/data REGISTRY_OPERATIONS_LISTEN=127.0.0.1:5001
WORKDIR /weighhouse
COPY --from=build /weighhouse/node_modules node_modules
COPY --from=build /weighhouse/dist dist
COPY package.json LICENSE ./
COPY bin bin
COPY migrations migrations
COPY spec spec
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
# Whether the process lives; what it needs may be away for a while (/health tells).
HEALTHCHECK --start-period=60s CMD ["node", "-e", "fetch('http://127.0.0.1:5001/health/live').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "bin/weighhouse.js", "serve"]
