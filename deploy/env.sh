#!/bin/sh
# Copies .env.example to .env and fills in the secrets that are empty there. An .env that is there stays as it is.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
  echo '.env is there'
  exit 0
fi
umask 077
while IFS= read -r line; do
  case $line in
    POSTGRES_PASSWORD= | REGISTRY_ADMIN_KEY= | REGISTRY_S3_SECRET_ACCESS_KEY=)
      secret=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
      echo "$line$secret"
      ;;
    *) printf '%s\n' "$line" ;;
  esac
done <.env.example >.env.new
mv .env.new .env
echo 'made .env; the admin key is REGISTRY_ADMIN_KEY in it'
