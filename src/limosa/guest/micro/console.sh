#!/bin/sh
# Run by the guest's init on the serial console, again and again: at first says that the guest is ready, then is a
# root shell. It asks for no password: whoever reaches this socket owns the lab, its disk and its keys.
if [ ! -e /run/limosa.ready ]; then
    if [ -s /run/limosa/ssh/host_key ]; then
        # Port 22 is 0016, state 0A is LISTEN.
        until grep -q ':0016 00000000:0000 0A' /proc/net/tcp; do
            usleep 20000
        done
    fi
    : >/run/limosa.ready
    echo "limosa: guest ready"
fi
cd /root
exec sh -l
