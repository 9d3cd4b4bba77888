#!/bin/sh
# Make sure an nginx is there for the tests of deploy/nginx.conf.template.
set -eu

PATH="$PATH:/usr/sbin"
if command -v nginx >/dev/null; then
    exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq nginx-light && exit 0
fi
echo "No nginx could be installed. Install one (Debian: apt-get install nginx-light) and try again." >&2
exit 1
