#!/bin/bash
# nginx in front of a store: it writes down every request, and spoils some of them on demand. On the loopback interface
# only.
#
#   nginx.sh start DIR UPSTREAM_PORT [BASE_PORT]   DIR is new or empty; a port of 0 or none: free ones
#   nginx.sh stop DIR                              removes DIR too, unless KEEP=1
#
# start prints DIR/store.env: the ports, which are
# BASE_PORT + 0 http, + 1 https   requests pass byte for byte, so signatures stay valid; none is sent twice
#           + 2 http, + 3 https   the same with faults
#
# Faults are set by http://127.0.0.1:$((BASE_PORT + 2))/_fault?delay=30&p503=5 for all requests that begin after it.
# Each call replaces the one before; without arguments there are none. faults.lua has their names.
#
# DIR/access.log has a line for each request, written when it is over; .../_sync answers when that is done for all that
# were. Its fields are separated by tabs; "-" and "" are nothing.
#   start end                     seconds since 1970 with three decimals
#   port connection request       where it came in, the connection's number, the request's number on it
#   method uri range              as sent; what is not printable as \xXX
#   status sent received          bytes of the answer's body, and of the whole request
#   complete                      OK if all of the answer was sent
#   fault                         hang reset cut stall 503 ...
#
# For start: OWNER_PID=n (stop when process n is gone).
set -euo pipefail
# shellcheck source=test/stores/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

write_env() {
    cat >store.env <<END
FRONT_HTTP_PORT=$base_port
FRONT_HTTPS_PORT=$((base_port + 1))
FRONT_FAULTY_HTTP_PORT=$((base_port + 2))
FRONT_FAULTY_HTTPS_PORT=$((base_port + 3))
FRONT_CA_FILE=$directory/tls.crt
FRONT_ACCESS_LOG=$directory/access.log
END
}

write_configuration() {
    local user=
    # The worker of root's nginx would else be another user's.
    [ "$(id -u)" != 0 ] || user="user $(id -un) $(id -gn);"
    cat >nginx.conf <<END
$user
# One process: its connections have one numbering, its log one order, its faults one memory.
worker_processes 1;
pid nginx.pid;
error_log log/error.log warn;
load_module $modules/ndk_http_module.so;
load_module $modules/ngx_http_lua_module.so;
events { worker_connections 1000; }
http {
  log_format requests '\$start\t\$msec\t\$server_port\t\$connection\t\$connection_requests\t\$request_method\t'
    '\$request_uri\t\$http_range\t\$status\t\$body_bytes_sent\t\$request_length\t\$request_completion\t\$fault';
  access_log access.log requests;

  client_max_body_size 0;
  keepalive_requests 1000000;
  keepalive_timeout 75s;
  tcp_nodelay on;
  postpone_output 0;
  reset_timedout_connection on;
  client_body_temp_path tmp/body;
  proxy_temp_path tmp/proxy;
  fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi;
  scgi_temp_path tmp/scgi;

  ssl_certificate tls.crt;
  ssl_certificate_key tls.key;
  ssl_session_cache shared:tls:1m;
  ssl_protocols TLSv1.2 TLSv1.3;

  upstream store { server 127.0.0.1:$upstream_port; keepalive 64; keepalive_requests 1000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host \$http_host;
  proxy_request_buffering off;
  proxy_next_upstream off;
  proxy_read_timeout 300s;
  client_body_buffer_size 256k;
  proxy_buffer_size 64k;
  proxy_buffers 16 64k;
  proxy_max_temp_file_size 0;

  lua_package_path "\$prefix/?.lua;/usr/share/lua/5.1/?.lua;;";
  lua_check_client_abort on;

  server {
    listen 127.0.0.1:$base_port;
    listen 127.0.0.1:$((base_port + 1)) ssl;
    set_by_lua_block \$start { return string.format('%.3f', ngx.req.start_time()) }
    set \$fault -;
    proxy_buffering off;
    location / { proxy_pass http://store; }
  }
  server {
    listen 127.0.0.1:$((base_port + 2));
    listen 127.0.0.1:$((base_port + 3)) ssl;
    set_by_lua_block \$start { return string.format('%.3f', ngx.req.start_time()) }
    set \$fault -;
    proxy_buffering on; # for a limited rate
    location = /_fault { access_log off; content_by_lua_block { require('faults').set() } }
    location = /_sync { access_log off; return 204; }
    location / {
      access_by_lua_block { return require('faults').before_request() }
      body_filter_by_lua_block { return require('faults').in_body() }
      proxy_pass http://store;
    }
  }
}
END
}

start() {
    local upstream_port=${2:-}
    need nginx openssl
    modules=$(nginx -V 2>&1 | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')
    need "$modules/ngx_http_lua_module.so"
    [ -n "$upstream_port" ] || fail "which port does the store listen on?"
    enter_new_directory "$1"
    base_port=${3:-0}
    [ "$base_port" != 0 ] || base_port=$(free_ports 4)
    need_free_ports "$base_port" $((base_port + 1)) $((base_port + 2)) $((base_port + 3))

    mkdir tmp
    cp "$(dirname "$script")/faults.lua" .
    write_env
    write_configuration
    make_certificate
    nginx -p "$directory/" -c nginx.conf -e log/error.log -g 'daemon on;' >log/nginx.out 2>&1 </dev/null
    # It listens, but another process writes the pid file.
    for _ in {1..200}; do
        [ ! -s nginx.pid ] || break
        sleep 0.01
    done
    is_running nginx || fail "nginx went away"
    started
}

case ${1:-} in
    start) start "${@:2}" ;;
    stop) enter_directory "${2:-}" && stop_all ;;
    *) fail "see the head of $script" ;;
esac
