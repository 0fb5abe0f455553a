#!/bin/sh
# Installs what the checkout needs, once: the locked packages, among them Node 24 itself.
# Needs only a Node with npm on the PATH. Prints to stderr, so that a command's own output stays clean.
set -eu
cd "$(dirname "$0")/.."
stamp=node_modules/.coffer-setup
if [ ! -f "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
  echo "coffer: installing the locked packages (once)" >&2
  # Not `npm ci`: it refuses a lock file without the packages of platforms that a registry mirror may lack.
  npm install --no-save --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json "$stamp"
fi
