#!/bin/sh
# Keeps the control process there: starts "$@", and starts it again when it dies, soon at first and once a second when it
# keeps dying. A control process that ends by itself (exit code 0) was asked to, and that is the end.
pause=0.05
while :; do
  began=$(date +%s)
  "$@"
  [ $? -eq 0 ] && exit 0
  [ $(($(date +%s) - began)) -gt 10 ] && pause=0.05
  sleep "$pause"
  pause=1
done
