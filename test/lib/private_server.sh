#!/bin/bash
# A throw-away server of its own: a copy of the installed server's files with our extension in it, a cluster, and nothing
# left afterwards. Other clusters, and the directories of the real pg_config, are never touched.
#
#   test/lib/private_server.sh [psql -c 'SELECT 1']     runs the command (psql if none) against such a server
#
# In bash scripts:
#   . test/lib/private_server.sh
#   private_server_create release         # or test: with fault injection and extension vector (see PGVECTOR); sets $work and
#                                         # removes it at exit (a script with an EXIT trap of its own calls
#                                         # private_server_cleanup there)
#   private_server_start 'shared_buffers = 256MB' ...   # sets PGHOST, PGPORT, PGUSER, PGDATABASE
#   as_server_user COMMAND ...            # the server's user: not root, owner of everything below $work
#   private_server_stop                   # optional: exit does it
#
# PG_CONFIG chooses the server to copy, TMPDIR where to; KEEP=1 keeps the directory. Extension vector is the stand-in of
# test/vector; with PGVECTOR=1 it is the pgvector installed in the server that is copied, with PGVECTOR=DIRECTORY a built source
# tree of pgvector's.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
debian_major=$(sed -n 's/^postgresql-\([0-9]*\)$/\1/p' "$repository/packages.txt")
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$debian_major/bin/pg_config}
work=

# The caller's PGHOST and the like must not lead us to another server, nor its umask hide files from the server's user.
for variable in ${!PG@}; do
    case $variable in PG_* | PGVECTOR) ;; *) unset "$variable" ;; esac
done
umask 022

server_user=$(id -un)
if [ "$(id -u)" = 0 ]; then
    server_user=postgres
    id -u postgres >/dev/null 2>&1 || server_user=nobody
fi

as_server_user() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    else
        HOME=$work USER=$server_user LOGNAME=$server_user setpriv --reuid="$server_user" \
            --regid="$(id -g "$server_user")" --init-groups -- "$@"
    fi
}

# make for build/release or build/test, apart from a `make` in the source tree.
private_server_make() {
    local variant=$1 flags=()
    shift
    [ "$variant" != test ] || flags=(TEST_FAULTS=1)
    mkdir -p "$repository/build/$variant" || return 1
    env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -s -C "$repository/build/$variant" -f ../../Makefile \
        -j"$(nproc)" "${flags[@]}" "$@"
}

private_server_create() {
    local variant=$1
    private_server_directory && private_server_make "$variant" PG_CONFIG="$PG_CONFIG" && private_server_copy &&
        private_server_make "$variant" PG_CONFIG="$PG_CONFIG" install >/dev/null || return 1
    [ "$variant" != test ] || private_server_vector
}

private_server_directory() {
    [ -z "$work" ] || return 0
    [ -n "$(trap -p EXIT)" ] || trap private_server_cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    # A socket's path has at most 107 bytes, and root's TMPDIR may be closed to the server's user.
    local base
    for base in "${TMPDIR:-/tmp}" /tmp; do
        [ ${#base} -le 60 ] && as_server_user test -w "$base" && break
    done
    work=$(mktemp -d "$base/ivfremote.XXXXXX") || return 1
    chown "$server_user" "$work"
    as_server_user mkdir "$work/socket" "$work/tmp" || return 1
    export TMPDIR=$work/tmp
}

private_server_vector() {
    local extensions library
    extensions=$("$PG_CONFIG" --sharedir)/extension library=$("$PG_CONFIG" --pkglibdir)
    case ${PGVECTOR:-} in
        '')
            mkdir -p "$repository/build/vector" &&
                env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -s -C "$repository/build/vector" \
                    -f ../../test/vector/Makefile PG_CONFIG="$PG_CONFIG" all install >/dev/null
            ;;
        1)
            [ -e "$extensions/vector.control" ] && [ -e "$library/vector.so" ] ||
                { echo "PGVECTOR=1: pgvector is not installed in the server that $PG_CONFIG was copied from" >&2; return 1; }
            ;;
        *)
            cp "$PGVECTOR/vector.so" "$library" && cp "$PGVECTOR/vector.control" "$PGVECTOR"/sql/vector--*.sql "$extensions" ||
                { echo "PGVECTOR=$PGVECTOR: not a built source tree of pgvector" >&2; return 1; }
            ;;
    esac
}

# Postgres finds its directories relative to its binary, so the copy keeps the layout below their common prefix.
private_server_copy() {
    local real bindir pkglibdir sharedir includedir prefix directory
    real=$("$PG_CONFIG" --bindir)/pg_config
    bindir=$("$real" --bindir) && pkglibdir=$("$real" --pkglibdir) && sharedir=$("$real" --sharedir) &&
        includedir=$("$real" --pkgincludedir) || return 1
    prefix=$bindir
    for directory in "$pkglibdir" "$sharedir" "$includedir"; do
        while [[ $directory/ != "$prefix"/* ]]; do prefix=${prefix%/*}; done
    done
    local tree=$work/server
    for directory in "$bindir" "$pkglibdir" "$sharedir"; do
        mkdir -p "$tree${directory#"$prefix"}" &&
            find "$directory" -mindepth 1 -maxdepth 1 \
                ! -name bitcode ! -name '*.a' ! -name man ! -name doc ! -name locale \
                -exec cp -a -t "$tree${directory#"$prefix"}" {} + || return 1
    done
    mkdir -p "$(dirname "$tree${includedir#"$prefix"}")" && ln -s "$includedir" "$tree${includedir#"$prefix"}" || return 1

    PG_CONFIG=$tree${bindir#"$prefix"}/pg_config
    for directory in bindir pkglibdir sharedir; do
        if [[ $("$PG_CONFIG" --$directory) != "$tree"/* ]]; then
            echo "$real: its directories have no common prefix to copy from, choose another server by PG_CONFIG" >&2
            return 1
        fi
    done
    export PG_CONFIG PATH="${PG_CONFIG%/*}:$PATH"
}

# shellcheck disable=SC2120
private_server_start() {
    export PGDATA=$work/data PGHOST=$work/socket PGUSER=postgres PGDATABASE=postgres PGPORT
    # Only matters if a caller turns TCP on: the socket's directory is ours alone.
    PGPORT=$((20000 + RANDOM % 20000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$PGPORT") 2>/dev/null; do PGPORT=$((PGPORT + 1)); done

    (cd "$work" && as_server_user initdb -N -U postgres -A trust -E UTF8 --no-locale) >"$work/initdb.log" 2>&1 ||
        { cat "$work/initdb.log" >&2; return 1; }
    printf '%s\n' "port = $PGPORT" "unix_socket_directories = '$PGHOST'" "listen_addresses = ''" "$@" \
        >>"$PGDATA/postgresql.conf"
    (cd "$work" && as_server_user pg_ctl -s -w -l "$work/postgres.log" start) ||
        { cat "$work/postgres.log" >&2; return 1; }
}

private_server_stop() {
    (cd "$work" && as_server_user pg_ctl -s -w -m fast stop)
}

private_server_cleanup() {
    local status=$?
    trap '' INT TERM HUP
    [ -n "$work" ] || return 0
    private_server_kill
    if [ -n "${KEEP:-}" ]; then
        echo "Kept: $work" >&2
    else
        if [ $status != 0 ] && [ -s "$work/postgres.log" ]; then
            echo "The end of the server's log (KEEP=1 keeps all of it):" >&2
            tail -n 20 "$work/postgres.log" >&2
        fi
        rm -rf "$work"
    fi
    work=
}

# Every postmaster below $work, also those that a TAP test left behind.
private_server_kill() {
    local file pid signal
    find "$work" -name postmaster.pid 2>/dev/null | while read -r file; do
        pid=$(head -n 1 "$file")
        for signal in QUIT KILL; do
            for _ in {1..50}; do
                # The number may have gone to another process by now.
                [[ $(readlink "/proc/$pid/cwd") == "$work"/* ]] || break 2
                kill -$signal "$pid" 2>/dev/null
                sleep 0.1
            done
        done
    done
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    "$repository/test/lib/packages.sh" || exit 1
    private_server_create release || exit 1
    # shellcheck disable=SC2119
    private_server_start || exit 1
    if [ $# = 0 ]; then psql; else "$@"; fi
fi
