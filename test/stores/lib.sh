# What the scripts here share. To be sourced; works in the store's directory, where every daemon has its pid file.
# shellcheck shell=bash

script=$(readlink -f "$0")
PATH=$PATH:/usr/sbin
umask 077

fail() {
    echo "$(basename "$script"): $*" >&2
    exit 1
}

# Commands or files; exits with 77, as tests do that have to be skipped.
need() {
    local command
    for command in "$@"; do
        if [ -e "$command" ] || command -v "$command" >/dev/null; then continue; fi
        echo "$command is not installed (test/lib/packages.sh test/stores/packages.txt)" >&2
        exit 77
    done
}

# For `start`: an empty directory, and nothing left of it if what follows fails.
enter_new_directory() {
    [ -n "$1" ] || fail "which directory?"
    mkdir -p "$1" && cd -P "$1" || exit 1
    [ -z "$(ls -A)" ] || fail "$1 is not empty"
    mkdir log
    # Our cwd is how a daemon is known to be ours.
    directory=$PWD
    trap 'show_logs; stop_all' EXIT
    trap 'exit 130' INT TERM HUP
}

enter_directory() {
    [ -f "$1/store.env" ] || fail "nothing was started in \"$1\""
    cd -P "$1" || exit 1
    directory=$PWD
}

show_logs() {
    tail -n 5 log/*.out >&2 2>/dev/null || true
    echo "$(basename "$script"): did not start" >&2
}

port_is_free() {
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

need_free_ports() {
    local port
    for port in "$@"; do port_is_free "$port" || fail "port $port is in use"; done
}

# The first of $1 consecutive free ports, below those the kernel gives to clients.
free_ports() {
    local first i
    while true; do
        first=$((12000 + RANDOM % 20000))
        for ((i = 0; i < $1; i++)); do port_is_free $((first + i)) || continue 2; done
        echo $first
        return
    done
}

# For all the names a store is addressed by, and its own authority.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
        -addext 'subjectAltName=DNS:localhost,DNS:s3.localhost,DNS:*.s3.localhost,IP:127.0.0.1' \
        -keyout tls.key -out tls.crt 2>log/openssl.out
}

# launch NAME COMMAND ...: a daemon in a session of its own, so that ^C in a terminal does not reach it
launch() {
    local name=$1
    shift
    setsid "$@" >>"log/$name.out" 2>&1 </dev/null &
    echo $! >"$name.pid"
    disown # no message when it is killed
}

is_running() {
    [ -s "$1.pid" ] && [ "$(readlink "/proc/$(cat "$1.pid")/cwd")" = "$directory" ]
}

# SIGKILL: the data are throw-away, and a polite exit takes some of them half a minute.
kill_daemon() {
    local pid
    if is_running "$1"; then
        pid=$(cat "$1.pid")
        kill -KILL -- "-$pid" 2>/dev/null || true
        for _ in {1..200}; do
            is_running "$1" || break
            sleep 0.02
        done
    fi
    rm -f "$1.pid"
}

stop_all() {
    local file
    for file in *.pid; do
        [ "$file" = owner.pid ] || kill_daemon "${file%.pid}"
    done
    kill_daemon owner # the last, as it may be what runs this
    if [ -n "${KEEP:-}" ]; then
        echo "Kept: $directory" >&2
    else
        cd / && rm -rf "$directory"
    fi
}

# The end of `start`: OWNER_PID=n has the store stopped when process n is gone, however it went.
started() {
    if [ -n "${OWNER_PID:-}" ]; then
        # shellcheck disable=SC2016
        launch owner bash -c 'tail --pid="$1" -f /dev/null; exec setsid "$2" stop "$3"' - \
            "$OWNER_PID" "$script" "$directory"
    fi
    trap - EXIT
    cat store.env
}
