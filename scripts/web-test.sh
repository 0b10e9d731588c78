#!/bin/sh
# The page end to end in a headless Chromium. Gets Chromium and Node from Debian and playwright-core from npm where they
# are missing. Exit code 77: there is no Chromium or no Node to be had.
set -eu
cd "$(dirname "$0")/.."
debian() {
    echo "$1 is missing: apt-get install $1" >&2
    apt-get install -y -q --no-install-recommends "$@" >&2 ||
        { apt-get update -q >&2 && apt-get install -y -q --no-install-recommends "$@" >&2; } || exit 77
}
[ -n "${CHROMIUM-}" ] || command -v chromium >/dev/null || command -v google-chrome >/dev/null || debian chromium
command -v npm >/dev/null || debian npm nodejs
scripts/web.sh
cd web/test
# The lock names versions and digests, no hosts: whatever registry npm is set to will do.
[ -d node_modules/playwright-core ] || npm ci --silent
node --test page.test.js
