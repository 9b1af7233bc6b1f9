#!/bin/bash
# Kernel command line: lab.net=NAME@MAC@ADDRESS/LENGTH[,...]. The initrd has loaded the driver.
ip link set lo up
for word in $(</proc/cmdline); do
  case $word in lab.net=*) list=${word#lab.net=} ;; *) continue ;; esac
  for entry in ${list//,/ }; do
    IFS=@ read -r name mac address <<<"$entry"
    for device in /sys/class/net/*; do
      [ "$(<"$device/address")" = "$mac" ] || continue
      ip link set "${device##*/}" name "$name"
      ip address add "$address" dev "$name"
      ip link set "$name" up
    done
  done
done
