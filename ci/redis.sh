#!/usr/bin/env bash
# Installs what the tests with a Redis server need, if it isn't there: redis-server or valkey-server, and openssl. The tests
# start servers of their own, and need none that runs already.
set -uo pipefail

# have: whether nothing is missing.
have() {
    { command -v redis-server || command -v valkey-server; } > /dev/null && command -v openssl > /dev/null
}

# as_root COMMAND…: runs it as root.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        echo "redis: not root, and there is no sudo: $*" >&2
        return 1
    fi
}

# add: installs it by the package manager that is there; a name after || is for a distribution that lacks the first.
add() {
    if command -v apt-get > /dev/null; then
        as_root env DEBIAN_FRONTEND=noninteractive bash -c 'apt-get update -q &&
            { apt-get install -qy redis-server openssl || apt-get install -qy valkey-server openssl; }'
    elif command -v dnf > /dev/null; then
        as_root dnf install -y valkey openssl || as_root dnf install -y redis openssl
    elif command -v apk > /dev/null; then
        as_root apk add redis openssl || as_root apk add valkey openssl
    elif command -v pacman > /dev/null; then
        as_root pacman -Sy --noconfirm valkey openssl
    elif command -v brew > /dev/null; then
        brew install redis openssl
    else
        echo 'redis: no package manager that this script knows' >&2
        return 1
    fi
}

have && exit 0
add
have && exit 0
echo 'redis: the tests need redis-server or valkey-server, and openssl, and they could not be installed; do it by hand' >&2
exit 1
