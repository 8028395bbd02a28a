#!/bin/sh
# Senders and a viewer that come from npm, at the versions of the lock file, into the folder that is named. Where npm is missing or
# does not reach its registry that is said, and what needs them is skipped and says so too.
# The viewer @ohif/app is built already: what it was built from, some 250 packages more, is left out of the lock file.
set -eu
if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not installed, so the senders that come from it are skipped." >&2
    exit 0
fi
mkdir -p "$1"
cp tests/peers/js/package.json tests/peers/js/package-lock.json "$1"
npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --silent ||
    echo "npm could not install the senders that come from it; what needs them is skipped." >&2
