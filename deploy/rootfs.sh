#!/bin/sh
# Assembles the image's root file system, as root: rootfs.sh PROGRAM CERTIFICATES DIRECTORY
set -eu
program=$1 certificates=$2 root=$3

install -D -m 755 "$program" "$root/usr/bin/flameline"
install -D -m 644 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
# Names of the users that the image and the manifests run the program as.
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' 'flameline:x:65532:65532:flameline:/var/lib/flameline:/sbin/nologin' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'flameline:x:65532:' >"$root/etc/group"
install -d -m 750 -o 65532 -g 65532 "$root/var/lib/flameline"
install -d -m 1777 "$root/tmp"
# Mount points, for container runtimes that create none.
install -d -m 755 "$root/dev" "$root/proc" "$root/sys"
