#!/usr/bin/env bash
# Runs a command in which registries of the client suite serve TLS with a certificate of a private CA, under a name that
# only this command and its children know: namespaces of their own, so that nothing of the machine changes. (On loopback
# several clients would fall back to plain HTTP, or trust any certificate.)
#
#   over-tls.sh COMMAND...     needs root, ip and openssl
set -euo pipefail
name=registry.weighhouse.test
# Of a block for documentation, which nobody has; clients must not take it for a private network.
address=198.51.100.7

# PATH of a user's shell may lack the folder of ip.
PATH=$PATH:/usr/sbin:/sbin

not_run() { # REASON
  echo "not run: clients over TLS: $1"
  if [ "${REQUIRE_ALL:-}" = 1 ]; then exit 1; fi
  exit 0
}

if [ "$1" != --inside ]; then
  for program in ip openssl; do
    command -v "$program" >/dev/null || not_run "$program is not installed (npm run clients:install)"
  done
  unshare --mount --net true 2>/dev/null || not_run 'namespaces of the kernel need root'
  exec unshare --mount --net "$0" --inside "$@"
fi
shift

folder=$(mktemp -d "${TMPDIR:-/tmp}/weighhouse-tls-XXXXXX")
trap 'rm -rf "$folder"' EXIT
ip link set lo up
ip address add "$address/32" dev lo
{ cat /etc/hosts; echo "$address $name"; } >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts

new=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2)
"${new[@]}" -subj '/CN=A private CA' -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>/dev/null
"${new[@]}" -subj "/CN=$name" -addext "subjectAltName=DNS:$name" -addext 'basicConstraints=critical,CA:FALSE' \
  -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -keyout "$folder/registry.key" -out "$folder/registry.pem" 2>/dev/null

# Node reads the last one at its start alone; the clients get theirs from support/tls.ts.
CLIENTS_TLS=$folder CLIENTS_NAME=$name NODE_EXTRA_CA_CERTS=$folder/ca.pem "$@"
