#!/bin/sh
# The first process of the User-Mode Linux machine that test/e2e/ipvs.test.ts boots: the host's own files, read-only, with /run
# as the only place to write and a changeable view of /etc (ip netns has files there). Runs FL_SCRIPT with FL_BUN and halts. Both come from the kernel's command line.
export PATH=/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/bin /run/tmp /run/modules/lib /run/home
export TMPDIR=/run/tmp HOME=/run/home

# The machine's modules are not where the kernel looks for them.
ln -s /usr/lib/uml/modules /run/modules/lib/modules
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/bin/modprobe
chmod +x /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe

# This kernel's nf_tables has no tables for IPv4: the other variant of iptables.
for tool in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
  ln -s "$(command -v xtables-legacy-multi)" "/run/bin/$tool"
done

mkdir /run/etc /run/etc-work
/run/bin/modprobe overlay
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc-work /etc

ip link set lo up
echo "fl-uml: up"
cd "$FL_ROOT" && "$FL_BUN" "$FL_SCRIPT"
echo "fl-uml: exit $?"
echo o >/proc/sysrq-trigger
exec sleep 10
