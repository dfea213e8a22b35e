#!/bin/bash

echo "start; `date`" >> /tmp/log
sysctl -w net.ipv4.ip_forward=1
iptables -t nat -A POSTROUTING -d 100.64.0.0/10 -j RETURN
iptables -t nat -A POSTROUTING -s 10.0.0.0/8 ! -p vrrp -j SNAT --to-source 10.100.1.0
sudo iptables -t nat -A PREROUTING -p tcp --dport 10106 -j DNAT --to-destination 172.16.102.6:22
sudo iptables -t nat -A PREROUTING -p tcp --dport 10106 -j DNAT --to-destination 172.16.102.6:22
