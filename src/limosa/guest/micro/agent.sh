#!/bin/sh
# Run again and again by the guest's init: the agent, where the image and the machine have it.
[ -x /usr/bin/limosa-agent ] && [ -e /dev/virtio-ports/org.limosa.agent.0 ] || exec sleep 2147483647
exec /usr/bin/limosa-agent
