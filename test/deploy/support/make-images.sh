#!/usr/bin/env bash
# Makes root file systems that stand for the official images, which can't be pulled everywhere: Debian's packages by
# debootstrap and apt, Node and npm from npm. Each is made once, into a cache outside the checkout.
#
#   make-images.sh CACHE        needs root, debootstrap and npm
#
#   debian.tar     debian:bookworm-slim
#   node.tar       node:24-bookworm-slim
#   services.tar   one for nginx, postgres and ceph
set -euo pipefail
# What is in them; a change of it makes new ones.
readonly RELEASE=bookworm NODE=24.21.0 NPM=11.19.1
readonly SERVICES=(nginx-light postgresql-15 ceph-mon ceph-mgr ceph-osd radosgw ceph-common curl)

cache=$1
here=$(cd "$(dirname "$0")" && pwd)
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
stamp=$(sha256sum "$0" "$here/postgres-entrypoint.sh" | sha256sum | cut -c1-64)
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -f "$cache"/{stamp,*.tar}

work=$(mktemp -d "${TMPDIR:-/tmp}/weighhouse-images-XXXXXX")
root=$work/root
umounted() { ! mountpoint -q "$1" || umount "$1"; }
# Nothing is removed while something of the machine is mounted in it.
trap 'umounted "$root/proc" && rm -rf --one-file-system "$work"' EXIT

save() { # NAME
  umounted "$root/proc"
  tar --numeric-owner --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./tmp/*' \
    -C "$root" -cf "$cache/$1.tar.new" .
  mv "$cache/$1.tar.new" "$cache/$1.tar"
}
inside() { chroot "$root" "$@"; }

mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
  awk -v release="$RELEASE" '$2 == release { print $1; exit }')
if [ -z "$mirror" ]; then echo "apt has no mirror of $RELEASE here" >&2; exit 1; fi

debootstrap --variant=minbase "$RELEASE" "$root" "$mirror" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; exit 1; }
save debian

# Beside each other: npm mostly waits.
npm install --prefix "$work/npm" --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error \
  "node-linux-$(node -p process.arch)@$NODE" "npm@$NPM" >"$work/npm.log" 2>&1 &
fetched=$!

cp /etc/resolv.conf "$root/etc/resolv.conf"
echo "deb $mirror $RELEASE main" >"$root/etc/apt/sources.list"
# No service is started while its package is installed.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/etc/postgresql-common"
echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
mount -t proc proc "$root/proc"
{ inside apt-get -qq update && inside apt-get -qq -y --no-install-recommends install "${SERVICES[@]}"; } >"$work/log" 2>&1 ||
  { tail -5 "$work/log" >&2; exit 1; }
install -m 755 "$here/postgres-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
rm -rf "$root"/usr/share/{doc,man,locale}
save services

wait "$fetched" || { tail -5 "$work/npm.log" >&2; exit 1; }
rm -rf --one-file-system "$root"
mkdir "$root"
tar -C "$root" -xf "$cache/debian.tar"
node=$(echo "$work"/npm/node_modules/node-linux-*/bin/node)
install -m 755 "$node" "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/lib/node_modules"
mv "$work/npm/node_modules/npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
inside groupadd --gid 1000 node
inside useradd --uid 1000 --gid 1000 --create-home node
save node
echo "$stamp" >"$cache/stamp"
