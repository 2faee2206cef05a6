#!/bin/sh
# Names the Debian packages of debian-packages.txt that are missing; as root, installs them too. What stays missing is for the tests to
# judge: they skip by name, and fail where CI=true.
set -eu

missing=
for package in $(sed 's/#.*//' "$(dirname "$0")/debian-packages.txt"); do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) || status=
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing Debian packages:$missing. Tests that need them are skipped (to install them: run make test as root)."
    exit 0
fi
echo "Missing Debian packages, to be installed now:$missing"

# Some of them are servers that Debian starts on installation. The tests start their own; so a policy says no while apt runs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Word splitting is wanted: one argument for each package.
# shellcheck disable=SC2086
apt-get install -qq -y --no-install-recommends $missing
