#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/slow/package_life.sh OLD NEW FOLDER: the life of an installation in a clean Debian, without a network: install, start, ask over
# HTTPS, edit the configuration, upgrade, downgrade, remove, purge; then the same with the RPM packages in the same root. OLD and NEW
# are build folders with deb/ and rpm/ of two versions; FOLDER takes the root (made by mmdebstrap, with what the packages depend on)
# and needs 1 GB. Prints what it does and finds; ends at the first thing that is not as it should be. Takes root.
set -euo pipefail
old=$(realpath "$1") new=$(realpath "$2") folder=$(realpath "$3")
root=$folder/root

say() { echo "== $*"; }
die() { echo "FAILED: $*"; exit 1; }

# ---- the machine ----

depends=$(dpkg-deb -f "$old"/deb/hob_*.deb Depends | tr ',' '\n' | sed -E 's/\|.*//; s/\(.*//; s/[[:space:]]//g' | paste -sd,)
say "a clean Debian with $depends"
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mmdebstrap --quiet --mode=root --variant=minbase --include="$depends" "$codename" "$root"

# in_root COMMAND...: in the root, in a network of its own that is only lo, with what it starts ended when it ends.
in_root() {
    unshare --net --mount --pid --fork --kill-child bash -c '
        set -e
        root=$1; shift
        ip link set lo up
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/run"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive "$@"' bash "$root" "$@"
}

# Everything that an administrator could find: names, but of what dpkg, rpm and their like keep of themselves, and the accounts.
survey() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp -o -path ./var/log \
        -o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/cache/ldconfig \) -prune -o ! -path './etc/*-' ! -path ./etc/.pwd.lock -print | sort
     cat etc/passwd etc/group etc/shadow)
}

# As the unit does it: its user, its folders. Then one question; the answer has to have words.
ask() {
    local port=$1
    in_root bash -c '
        set -e
        install -d -o hob -g hob -m 0750 /var/lib/hob /run/hob
        install -d -o hob -g hob -m 0700 /var/cache/hob
        CACHE_DIRECTORY=/var/cache/hob setpriv --reuid hob --regid hob --clear-groups --no-new-privs --bounding-set=-all \
            sh -c "umask 0077; exec hobd --config /etc/hob/hob.conf" 2>/tmp/hobd.log &
        hobd=$!
        for ((i = 0; i < 1200; i++)); do
            kill -0 $hobd 2>/dev/null || { cat /tmp/hobd.log; exit 1; }
            hobctl status >/dev/null 2>&1 && break
            sleep 0.1
        done
        export HOB_URL=https://127.0.0.1:'"$port"' HOB_CACERT=/var/lib/hob/ca.pem HOB_API_KEY=$(cat /var/lib/hob/api_key)
        answer=$(hobctl chat --max-tokens 16 --seed 1 --temperature 0 "What is a hearth?" </dev/null) || { cat /tmp/hobd.log; exit 1; }
        echo "answer on port '"$port"': $answer"
        [[ $answer =~ [a-z]{3,} ]]
        grep -E "VmRSS|RssAnon" /proc/$hobd/status | tr "\n" " "; echo "(hobd, the gateway)"
        kill -TERM $hobd
        wait $hobd
    ' || die "hobd did not answer"
}

conf=$root/etc/hob/hob.conf
edit() {
    sed -i 's/^port = 8443;/port = 9443; # edited/' "$conf"
    grep -q '9443; # edited' "$conf" || die "the configuration has no such line"
    edited=$(sha256sum <"$conf")
}
kept() { [ "$(sha256sum <"$conf")" = "$edited" ] || die "the edited configuration was changed by: $*"; }
version_is() { in_root hobd --version | grep -qx "hobd $1" || die "hobd --version does not say $1"; }
key() { sha256sum <"$root/var/lib/hob/api_key"; }
old_version=$(dpkg-deb -f "$old"/deb/hob_*.deb Version) new_version=$(dpkg-deb -f "$new"/deb/hob_*.deb Version)

# ---- .deb ----

mkdir "$root/packages"
cp "$old"/deb/*.deb "$root/packages"
mkdir "$root/packages/new"
cp "$new"/deb/*.deb "$root/packages/new"
survey >"$folder/before"

say "install $old_version"
in_root bash -c 'dpkg -i /packages/*.deb'
dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Conffiles}\n' hob
in_root dpkg --verify
[ -z "$(in_root dpkg -L hob hob-model-smollm2 hob-model-minilm | grep -E '[.](pem|key)$|api_key')" ] || die "the packages hold a key"
[ ! -e "$root/var/lib/hob/api_key" ] || die "installing made a key"
version_is "$old_version"
say "start and ask"
ask 8443
first_key=$(key)
say "edit /etc/hob/hob.conf, start again, ask"
edit
ask 9443
say "upgrade to $new_version"
in_root bash -c 'dpkg --force-confdef --force-confold -i /packages/new/*.deb'
version_is "$new_version"
kept upgrade
[ -e "$conf.dpkg-dist" ] || die "the new configuration is not beside the edited one"
ask 9443
[ "$(key)" = "$first_key" ] || die "the key is another after the upgrade"
say "downgrade to $old_version"
in_root bash -c 'dpkg --force-confdef --force-confold -i /packages/*.deb' 2>&1
version_is "$old_version"
kept downgrade
ask 9443
[ "$(key)" = "$first_key" ] || die "the key is another after the downgrade"
say "remove"
in_root dpkg -r hob-dbgsym hob hob-model-smollm2 hob-model-minilm
[ ! -e "$root/usr/sbin/hobd" ] || die "hobd is still there"
kept removal
[ "$(key)" = "$first_key" ] || die "the key is gone with the package"
say "install again: the edited configuration is in effect"
in_root bash -c 'dpkg -i /packages/*.deb'
kept "a new installation"
ask 9443
say "purge"
# What hobctl setup writes for systemd goes, too.
mkdir -p "$root/etc/systemd/system/hob.service.d"
echo >"$root/etc/systemd/system/hob.service.d/memory.conf"
in_root dpkg -P hob-dbgsym hob hob-model-smollm2 hob-model-minilm
survey >"$folder/after"
diff "$folder/before" "$folder/after" || die "the purge left something, or took too much"
say "nothing is left"
say "an unedited configuration becomes the new one"
in_root bash -c 'dpkg -i /packages/*.deb && dpkg -i /packages/new/*.deb' >/dev/null
dpkg-deb --fsys-tarfile "$new"/deb/hob_*.deb | tar -xO ./etc/hob/hob.conf | cmp - "$conf" || die "the unedited configuration is not the new one"
in_root dpkg -P hob-dbgsym hob hob-model-smollm2 hob-model-minilm >/dev/null
survey >"$folder/after"
diff "$folder/before" "$folder/after" || die "the second purge left something"

# ---- .rpm ----

say "the RPM packages: install $old_version"
# Debian's packages provide no RPM names: their dependencies are not looked at.
rpm_in_root() { unshare --net rpm --root "$root" --nodeps "$@"; }
rpm --root "$root" --initdb
rpm_in_root -i "$old"/rpm/*.rpm
rpm --root "$root" -V hob hob-model-smollm2 hob-model-minilm --nodeps || die "rpm -V finds changes"
rpm --root "$root" -qc hob
version_is "$old_version"
say "start and ask"
ask 8443
first_key=$(key)
say "edit, start again, ask"
edit
ask 9443
say "upgrade to $new_version"
rpm_in_root -U "$new"/rpm/*.rpm
version_is "$new_version"
kept upgrade
[ -e "$conf.rpmnew" ] || die "the new configuration is not beside the edited one"
ask 9443
say "downgrade to $old_version"
rpm_in_root -U --oldpackage "$old"/rpm/*.rpm
version_is "$old_version"
kept downgrade
ask 9443
[ "$(key)" = "$first_key" ] || die "the key is another after upgrade and downgrade"
say "erase"
rpm_in_root -e hob hob-model-smollm2 hob-model-minilm
[ ! -e "$root/usr/sbin/hobd" ] || die "hobd is still there"
[ "$(sha256sum <"$conf.rpmsave")" = "$edited" ] || die "the edited configuration was not kept"
[ "$(key)" = "$first_key" ] || die "the key is gone with the package"
survey >"$folder/after"
# RPM has no purge: what is left is the administrator's and hobd's.
if diff "$folder/before" "$folder/after" | grep '^[<>]' | grep -v -E '^> (\./(etc/hob|var/(lib|cache)/hob)(/|$)|hob:)'; then die "the erased packages left something else"; fi
say "only configuration, state and user are left"
