#!/bin/sh
# Builds dist/mkisod_X_all.deb: packaging/build-deb.sh [DIST]. The same sources give the same bytes.
#
# PIP is the pip to use (default: pip3), one with the setuptools of requirements-build.txt beside it. It fetches the pinned dependencies and
# checks their hashes; with WHEELS=DIR it takes them from there, and nothing is fetched. VERSION_SUFFIX=+1 makes a later version of the same,
# to try upgrades with.
set -eu
cd "$(dirname "$0")/.."
umask 022
dist=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
source=$build/mkisod
mkdir "$source"

cp -a mkisod docs man clients packaging README.md CHANGELOG.md LICENSE "$source"
mv "$source/packaging/debian" "$source/debian"
find "$source" -name __pycache__ -type d -prune -exec rm -r {} +

# One unit file for the service and its further instances: it goes by its name.
cp packaging/systemd/mkisod.service "$source/debian/mkisod.service"
cp packaging/systemd/mkisod.service "$source/debian/mkisod@.service"
cp packaging/systemd/mkisod.sysusers packaging/systemd/mkisod.tmpfiles "$source/debian"

# The default configuration is the documented one, commented out; but metrics are written where the unit has a place for them.
{
    echo "# mkisod.toml(5). These are the defaults: take the # away from what you change."
    sed -n '/^```toml$/,/^```$/{/^```/!p}' docs/mkisod.toml.md | sed -E \
        -e 's|^textfile = ""( *#.*)$|textfile = "/run/mkisod/mkisod.prom"\1|' -e t -e '/^($|\[)/!s/^/#/'
} >"$source/debian/mkisod.toml"

version=$(sed -n 's/^__version__.* = "\(.*\)"$/\1/p' mkisod/__init__.py)
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH
if [ "$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)" != "$version" ]; then
    echo "packaging/debian/changelog does not begin with version $version." >&2
    exit 1
fi
if [ -n "${VERSION_SUFFIX:-}" ]; then
    sed -i "1s/($version)/($version$VERSION_SUFFIX)/" "$source/debian/changelog"
fi

pip="${PIP:-pip3} --quiet --disable-pip-version-check"
wheels=${WHEELS:-}
if [ -z "$wheels" ]; then
    wheels=$build/wheels
    $pip download --require-hashes --no-deps --no-build-isolation --dest "$wheels" --requirement requirements.txt
fi
$pip install --no-index --find-links "$wheels" --require-hashes --no-deps --no-build-isolation --no-compile --no-warn-script-location \
    --target "$source/vendor" --requirement requirements.txt

cd "$source"
dpkg-buildpackage --build=all --no-sign --no-check-builddeps >"$build/log" 2>&1 || { cat "$build/log" >&2; exit 1; }
cp "$build"/*.deb "$dist"
echo "$dist/mkisod_$version${VERSION_SUFFIX:-}_all.deb"
