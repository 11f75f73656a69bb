#!/bin/sh
# Loads the kernel extension; as root. The extension is next to this script, or where the first argument says.
#
# Siblings that are linked against it are unloaded first, and not loaded again: they belong to another package.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
kext=${1:-$here/VBoxDrv.kext}
identifier=org.virtualbox.kext.VBoxDrv
siblings="org.virtualbox.kext.VBoxNetAdp org.virtualbox.kext.VBoxNetFlt org.virtualbox.kext.VBoxUSB"

fail() {
	echo "load.sh: $1" >&2
	exit 1
}

is_loaded() {
	kextstat -l -b "$1" 2>/dev/null | grep -q "$1"
}

[ "$(id -u)" = 0 ] || fail "must be run as root"
[ -f "$kext/Contents/Info.plist" ] || fail "$kext is no kernel extension"

# The kernel takes no extension that others than root can change.
strangers=$(find "$kext" \( ! -user root -o ! -group wheel -o -perm -020 -o -perm -002 \) -print)
[ -z "$strangers" ] || fail "must belong to root:wheel, and be writable by root only: $strangers
  chown -R root:wheel \"$kext\" && chmod -R go-w \"$kext\""

for bundle in $siblings "$identifier"; do
	if is_loaded "$bundle"; then
		kextunload -b "$bundle" || fail "$bundle is in use"
	fi
done

# kmutil is there since macOS 11, where loading may need the user's approval, and a restart.
if [ -x /usr/bin/kmutil ]; then
	kmutil load -p "$kext" || fail "not loaded; see System Preferences, Security & Privacy"
else
	kextload "$kext" || fail "not loaded; kextutil -n -t \"$kext\" says why"
fi
is_loaded "$identifier" || fail "$identifier was approved for the next start only: restart the machine"
