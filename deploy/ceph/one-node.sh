#!/usr/bin/env bash
# A Ceph of one node with its S3 gateway on port 7480, in one container, for docker-compose.yml: to try Weighhouse, and for
# what one disk can hold. It has one copy of everything. For more, run a cluster by cephadm or Rook, and name its gateway in
# REGISTRY_S3_ENDPOINT.
#
# What it keeps lies in /var/lib/ceph. S3_ACCESS_KEY and S3_SECRET_KEY name the user that it makes; OSD_SIZE is how much it
# can hold (a sparse file). Its other ports are open to this container alone, which is why they ask for no key.
set -euo pipefail
readonly data=/var/lib/ceph/one-node ready=/tmp/ceph-ready
export CEPH_CONF=$data/ceph.conf
: "${S3_ACCESS_KEY:?}" "${S3_SECRET_KEY:?}" "${OSD_SIZE:=100G}"

await() { # WHAT COMMAND...
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    if "${@:2}" &>/dev/null; then return; fi
    sleep 0.2
  done
  echo "one-node: $1 does not come" >&2
  exit 1
}

rm -f "$ready"
mkdir -p "$data" /var/run/ceph
[ -e "$data/fsid" ] || cat /proc/sys/kernel/random/uuid >"$data/fsid"
fsid=$(<"$data/fsid")
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:3300]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_mon_service_mode = crc
ms_mon_cluster_mode = crc
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
log_to_file = false
log_to_stderr = true
mon_cluster_log_to_file = false
mon_cluster_log_to_stderr = true
err_to_stderr = true

[mon]
mon_data = $data/mon
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false

[mgr]
mgr_data = $data/mgr

[osd]
osd_data = $data/osd
bluestore_block_size = $OSD_SIZE
osd_memory_target = 2147483648

[client.rgw]
rgw_data = $data/rgw
# Without tcp_nodelay a GET of a small object takes 44 ms.
rgw_frontends = beast endpoint=0.0.0.0:7480 tcp_nodelay=1
rgw_run_sync_thread = false
CONF
mkdir -p "$data"/{mgr,osd,rgw}

# Each made whole or not at all, so that a start that was cut short can be repeated.
if [ ! -e "$data/mon" ]; then
  rm -rf "$data/mon.new"
  ceph-mon --id one --mkfs --mon-data "$data/mon.new" --public-addrv '[v2:127.0.0.1:3300]'
  mv "$data/mon.new" "$data/mon"
fi

# Daemons in the foreground; when one ends so does the container, and is started again as a whole.
pids=()
run() { "$@" & pids+=($!); }
stop() {
  trap - TERM INT
  rm -f "$ready"
  # The gateway first, the monitor last.
  for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
    kill "${pids[at]}" 2>/dev/null && wait "${pids[at]}" || true
  done
  exit "$1"
}
trap 'stop 0' TERM INT

run ceph-mon --id one --foreground
await 'the monitor' ceph --connect-timeout 5 status
run ceph-mgr --id one --foreground
if [ ! -e "$data/osd/made" ]; then
  rm -rf "$data/osd"
  mkdir "$data/osd"
  ceph osd new "$fsid" 0 >/dev/null
  ceph-osd --id 0 --mkfs --osd-uuid "$fsid"
  touch "$data/osd/made"
fi
run ceph-osd --id 0 --foreground
await 'the OSD' sh -c 'ceph --connect-timeout 5 osd stat | grep -q "1 up"'
run radosgw --name client.rgw --foreground
await 'the gateway' curl --silent --fail --noproxy '*' http://127.0.0.1:7480/
keys=(--uid weighhouse --access-key "$S3_ACCESS_KEY" --secret-key "$S3_SECRET_KEY")
radosgw-admin user info --uid weighhouse &>/dev/null || radosgw-admin user create --display-name Weighhouse "${keys[@]}" >/dev/null
# Also after the keys have been changed.
radosgw-admin key create --key-type s3 "${keys[@]}" >/dev/null
touch "$ready"
echo 'one-node: ready'
# A signal ends the first `wait`, with its trap.
wait -n "${pids[@]}" || true
echo 'one-node: a daemon has ended' >&2
stop 1
