#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0
#
# Installs or removes the driver without a package:
#     install.sh install FOLDER    FOLDER has vboxdrv and vboxdrv.conf
#     install.sh remove

set -u

DRIVERS=/platform/i86pc/kernel/drv
LINKS=/etc/devlink.tab

fail()
{
	echo "$0: $1" >&2
	exit 1
}

remove_links()
{
	sed -e '/name=vboxdrv;/d' "$LINKS" > "$LINKS.new" || return 1
	cat "$LINKS.new" > "$LINKS" && rm -f "$LINKS.new"
}

add_links()
{
	remove_links || return 1
	# devlinks(8) wants tabs between the fields.
	printf 'type=ddi_pseudo;name=vboxdrv;minor=vboxdrv\t\\D\n' >> "$LINKS"
	printf 'type=ddi_pseudo;name=vboxdrv;minor=vboxdrvu\t\\M0\n' >> "$LINKS"
}

install_driver()
{
	folder=$1
	[ -f "$folder/vboxdrv" ] && [ -f "$folder/vboxdrv.conf" ] || fail "$folder has no vboxdrv and vboxdrv.conf"
	mkdir -p "$DRIVERS/amd64" || fail "no $DRIVERS"
	cp "$folder/vboxdrv" "$DRIVERS/amd64/vboxdrv" || fail "copying the driver"
	cp "$folder/vboxdrv.conf" "$DRIVERS/vboxdrv.conf" || fail "copying its configuration"
	add_links || fail "$LINKS can't be changed"
	/usr/sbin/add_drv -m '* 0600 root sys' -m 'vboxdrvu 0666 root sys' vboxdrv || fail "add_drv"
	/usr/sbin/devfsadm -i vboxdrv || fail "devfsadm"
}

# Timers and threads of modules may keep the driver busy for a moment.
remove_driver()
{
	tries=15
	while module=$(/usr/sbin/modinfo | awk '$6 == "vboxdrv" { print $1 }') && [ -n "$module" ]; do
		/usr/sbin/modunload -i "$module" && break
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "the driver is busy"
		sleep 1
	done
	/usr/sbin/rem_drv vboxdrv || fail "rem_drv"
	remove_links || fail "$LINKS can't be changed"
	rm -f "$DRIVERS/amd64/vboxdrv" "$DRIVERS/vboxdrv.conf" /dev/vboxdrv /dev/vboxdrvu
}

case "${1:-}" in
install)
	[ $# -eq 2 ] || fail "which folder?"
	install_driver "$2"
	;;
remove)
	remove_driver
	;;
*)
	fail "usage: install FOLDER | remove"
	;;
esac
/sbin/bootadm update-archive
