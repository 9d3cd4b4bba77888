#!/bin/sh
# Make sure a Chromium is there for the browser tests: the system's, or the one Playwright fetches.
# Usage: tests/install_browser.sh VENV/bin
set -eu

if command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
    || command -v google-chrome >/dev/null; then
    exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq chromium && exit 0
fi
"$1/python" -m playwright install chromium && exit 0
echo "No Chromium could be installed. Install one (Debian: apt-get install chromium) and try again." >&2
exit 1
