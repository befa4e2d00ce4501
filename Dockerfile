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
ENV NODE_ENV=production REGISTRY_LISTEN=0.0.0.0:5000 REGISTRY_DATA_DIR=/data
WORKDIR /weighhouse
COPY --from=build /weighhouse/node_modules node_modules
COPY --from=build /weighhouse/dist dist
COPY package.json LICENSE ./
COPY bin bin
COPY migrations migrations
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
CMD ["node", "bin/weighhouse.js", "serve"]
