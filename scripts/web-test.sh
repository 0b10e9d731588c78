#!/bin/sh
# Tests the page end to end in headless Chromium. Installs Chromium and Node from Debian and playwright-core from npm if they
# are missing. Exit code 77: Chromium or Node cannot be installed.
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
# The lock file has versions and digests but no hosts, so it works with any registry that npm is configured for.
[ -d node_modules/playwright-core ] || npm ci --silent
node --test page.test.js
