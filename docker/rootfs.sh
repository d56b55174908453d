#!/bin/sh
# Completes the file system of the image: rootfs.sh ROOT OWNED. ROOT holds the binary and becomes root's; OWNED becomes
# the node's own.
set -eu
root=$1 owned=$2

# The libraries under the names by which the loader finds them.
libraries=$(ldd "$root/usr/local/bin/everdesk" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }')
for library in $libraries; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

mkdir -p "$root/bin" "$root/etc" "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
for tool in sh cat head ln ls mkdir mv ps rm sleep tr wget; do ln -s busybox "$root/bin/$tool"; done
echo 'everdesk:x:10001:10001::/data:/bin/sh' >"$root/etc/passwd"
echo 'everdesk:x:10001:' >"$root/etc/group"
# Whom webhooks and S3-compatible stores are believed.
mkdir -p "$root/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# Without it the C library asks only for DNS, and a name of /etc/hosts is not found.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
rm "$root/usr/local/lib/everdesk/rootfs.sh"
chmod 755 "$root/usr/local/lib/everdesk/start.sh" "$root/usr/local/bin/everdesk"

# A fresh volume takes owner and mode of the directory on which it is mounted.
mkdir -p "$owned/data" "$owned/run/everdesk"
chmod 700 "$owned/data" "$owned/run/everdesk"
