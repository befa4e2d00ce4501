#!/bin/sh
# Makes a private CA, and a certificate of it for the names that clients use, unless certificates are there: yours, as
# registry.pem (the chain, own certificate first) and registry.key.
#
#   certificates.sh FOLDER NAME...      a NAME may be an address
set -eu
folder=$1
shift
if [ -s "$folder/registry.pem" ] && [ -s "$folder/registry.key" ]; then exit 0; fi
umask 077
names=
for name in "$@"; do
  case $name in
    *:*) kind=IP ;;
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  names="$names${names:+,}$kind:$name"
done
new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
cd "$folder"
if [ ! -s ca.pem ] || [ ! -s ca.key ]; then
  $new -days 3650 -subj '/CN=Private CA of Weighhouse' -keyout ca.key -out ca.pem
fi
# No client takes one for longer than this.
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout registry.key -out registry.csr
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n' "$names" >registry.ext
openssl x509 -req -in registry.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 397 -extfile registry.ext -out registry.pem
rm -f registry.csr registry.ext ca.srl
chmod 644 ca.pem registry.pem
# nginx runs as this user.
if [ "$(id -u)" = 0 ]; then chown 1000:1000 registry.key registry.pem ca.pem; fi
echo "clients have to trust ca.pem"
