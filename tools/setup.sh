#!/bin/sh
# Installs what the checkout needs, once: the locked packages, among them Node 24 itself (tools/node).
# Needs only a Node with npm on the PATH. Prints to stderr, so that a command's own output stays clean.
set -eu
cd "$(dirname "$0")/.."
stamp=node_modules/.coffer-setup
locked=node_modules/.bin/node
if [ ! -f "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
  echo "coffer: installing the locked packages (once)" >&2
  # Not `npm ci`: it refuses a lock file without the packages of platforms that a registry mirror may lack.
  npm install --no-save --no-audit --no-fund --loglevel=error >&2
  if ! "$locked" --version >/dev/null 2>&1; then
    # npm leaves out a package of another platform, and one whose hash is not the locked hash.
    rm -f "$locked"
    told="coffer: no locked Node runs on this machine ($(uname -s) $(uname -m))"
    if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 22 || (a == 22 && b >= 18) ? 0 : 1)'
    then
      echo "$told, and $(node --version) is too old: put Node 24 on the PATH (https://nodejs.org)" >&2
      exit 1
    fi
    echo "$told: Node $(node --version) of the PATH is used" >&2
  fi
  cp package-lock.json "$stamp"
fi
