#!/bin/bash

echo "stop; `date`" >> /tmp/log
iptables -t nat -F
