#!/bin/bash
# Installs what is missing of packages.txt (or of the packages and lists named as arguments; a list has a slash in its
# name), without creating a main cluster. Prints the command first; when not root, stops there.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian system: make sure that the equivalents of packages.txt are installed." >&2
    exit 0
fi

[ $# -gt 0 ] || set -- ./packages.txt
wanted=()
for argument in "$@"; do
    case $argument in
        */*)
            # A server chosen by PG_CONFIG need not be a package.
            list=$(sed -E "s/#.*//; /^ *$/d; ${PG_CONFIG:+/^postgresql-/d}" "$argument")
            mapfile -t -O ${#wanted[@]} wanted <<<"$list"
            ;;
        *) wanted+=("$argument") ;;
    esac
done
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/ installed$//p') || true
missing=()
for package in "${wanted[@]}"; do
    grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "apt-get install --no-install-recommends ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
    echo "Not root: run the line above as root, then try again." >&2
    exit 1
fi

# A drop-in file, gone afterwards: the setting proper is in a file that dpkg asks about when it was changed.
drop_in_dir=/etc/postgresql-common/createcluster.d
drop_in=$drop_in_dir/ivfremote-$$.conf
trap 'rm -f "$drop_in"; rmdir --ignore-fail-on-non-empty "$drop_in_dir" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$drop_in_dir"
echo 'create_main_cluster = false' >"$drop_in"

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=120)
"${apt[@]}" update || echo "apt-get update failed, trying with the lists there are" >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}"
