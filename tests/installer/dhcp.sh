#!/bin/sh
# What udhcpc calls with what it was told.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
case $1 in
    deconfig) ip address flush dev "$interface" && ip link set "$interface" up ;;
    bound | renew)
        ip address flush dev "$interface"
        ip address add "$ip/$mask" broadcast + dev "$interface"
        for address in $router; do ip route add default via "$address"; done
        : >/etc/resolv.conf
        for address in $dns; do echo "nameserver $address" >>/etc/resolv.conf; done
        ;;
esac
