#!/bin/bash
# A throw-away S3 server: Ceph's radosgw over one monitor and one storage daemon that keeps everything in memory. On the
# loopback interface only.
#
#   radosgw.sh start DIR [HTTP_PORT [HTTPS_PORT]]   DIR is new or empty; a port of 0 or none: a free one
#   radosgw.sh stop DIR                             removes DIR too, unless KEEP=1
#   radosgw.sh bucket DIR NAME                      creates a bucket
#   radosgw.sh user DIR NAME ACCESS_KEY SECRET_KEY  creates another user, who owns nothing
#   radosgw.sh rotate DIR ACCESS_KEY SECRET_KEY     gives the first user these keys instead of those he has
#   radosgw.sh session DIR                          prints temporary credentials of the first user; needs STS=1 at start
#   radosgw.sh gateway-kill DIR                     cuts all transfers; what was stored stays
#   radosgw.sh gateway-start DIR [OFFSET]           OFFSET: of its clock, e.g. +20m; needs libfaketime
#   radosgw.sh set DIR gateway|storage OPTION VALUE e.g. gateway rgw_max_concurrent_requests 3: real 503s
#
# start prints DIR/store.env: credentials and ports. Endpoints are 127.0.0.1 and s3.localhost (path style) and
# BUCKET.s3.localhost; any other host name is taken for a bucket's.
#
# For start: MEMORY=bytes (when full, a PUT is never answered), OWNER_PID=n (stop when process n is gone), STS=1
# (session tokens; wrong signatures then read AccessDenied instead of SignatureDoesNotMatch and InvalidAccessKeyId).
set -euo pipefail
# shellcheck source=test/stores/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The AWS_* are what the AWS command line and SDKs look for.
write_env() {
    cat >store.env <<END
AWS_ACCESS_KEY_ID=testaccess
AWS_SECRET_ACCESS_KEY=testsecret0123456789
AWS_DEFAULT_REGION=us-east-1
S3_HTTP_PORT=$http_port
S3_HTTPS_PORT=$https_port
S3_DOMAIN=s3.localhost
S3_CA_FILE=$directory/tls.crt
END
}

# Paths are relative: a socket's path has at most 107 bytes.
write_configuration() {
    cat >ceph.conf <<END
[global]
fsid = $cluster_id
mon_host = [v2:127.0.0.1:$monitor_port/0]
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# Without authentication, the gateway's default (secure) would retry for ever.
ms_mon_client_mode = crc
auth_allow_insecure_global_id_reclaim = false
run_dir = run
admin_socket = run/\$name.\$pid.asok
log_file = log/\$name.log
crash_dir = run
mon_data = monitor
mon_cluster_log_file = log/cluster.log
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
osd_data = storage
osd_objectstore = memstore
memstore_device_bytes = ${MEMORY:-4294967296}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
# A killed gateway is forgotten soon; changes of buckets and users would otherwise wait for it for 30 s.
osd_client_watch_timeout = 2
# Changes of the cluster map at once: every second start would otherwise stall for 5 s.
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
objecter_tick_interval = 0.2

[client.rgw]
rgw_data = run
rgw_frontends = beast endpoint=127.0.0.1:$http_port ssl_endpoint=127.0.0.1:$https_port $certificate tcp_nodelay=1
rgw_dns_name = $S3_DOMAIN
rgw_thread_pool_size = 64
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
rgw_run_sync_thread = false
# The memory of deleted objects is free after seconds, not after two hours.
rgw_gc_obj_min_wait = 10
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
END
    [ -z "${STS:-}" ] || printf '%s\n' 'rgw_s3_auth_use_sts = true' 'rgw_sts_key = abcdefghijklmnop' >>ceph.conf
}

start_monitor() {
    monmaptool --create --fsid "$cluster_id" --addv a "[v2:127.0.0.1:$monitor_port/0]" monitor.map >log/monitor.out
    ceph-mon -i a --mkfs --monmap monitor.map >>log/monitor.out 2>&1
    launch monitor ceph-mon -f -i a
}

start_storage() {
    local id
    id=$(cat /proc/sys/kernel/random/uuid)
    ceph --connect-timeout 30 osd new "$id" >>log/storage.out 2>&1 # waits for the monitor
    ceph-osd -i 0 --mkfs --osd-uuid "$id" >>log/storage.out 2>&1
    launch storage ceph-osd -f -i 0
}

start_gateway() {
    local library
    if [ -n "${1:-}" ]; then
        library=$(compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1') || fail "libfaketime is not installed"
        launch gateway env LD_PRELOAD="$library" FAKETIME="$1" FAKETIME_DONT_FAKE_MONOTONIC=1 radosgw -f -n client.rgw
    else
        launch gateway radosgw -f -n client.rgw
    fi
}

wait_for_gateway() {
    for _ in {1..600}; do
        curl -fso /dev/null "http://127.0.0.1:$S3_HTTP_PORT/" && return
        is_running gateway || break
        sleep 0.05
    done
    fail "the gateway does not answer"
}

create_user() {
    radosgw-admin -n client.rgw user create --uid="$1" --display-name="$1" --access-key="$2" --secret-key="$3" \
        "${@:4}" >>log/admin.out 2>&1
}

replace_keys() {
    radosgw-admin -n client.rgw key create --uid=test --key-type=s3 --access-key="$1" --secret-key="$2" \
        >>log/admin.out 2>&1
    radosgw-admin -n client.rgw key rm --uid=test --key-type=s3 --access-key="$AWS_ACCESS_KEY_ID" >>log/admin.out 2>&1
    sed -i "s/^AWS_ACCESS_KEY_ID=.*/AWS_ACCESS_KEY_ID=$1/; s/^AWS_SECRET_ACCESS_KEY=.*/AWS_SECRET_ACCESS_KEY=$2/" store.env
}

# request SERVICE ARGUMENT ...: signed by curl, which is right about requests as simple as these
request() {
    local service=$1
    shift
    curl -fsS --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:$service" -K - "$@" \
        <<<"user = \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\""
}

allow_session_tokens() {
    local policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","sts:*"],"Resource":["*"]}]}'
    request iam -o /dev/null "http://127.0.0.1:$S3_HTTP_PORT/" --data-urlencode Action=PutUserPolicy \
        --data-urlencode UserName=test --data-urlencode PolicyName=all --data-urlencode "PolicyDocument=$policy"
}

print_session() {
    local answer
    answer=$(request sts "http://127.0.0.1:$S3_HTTP_PORT/" -d Action=GetSessionToken -d DurationSeconds=3600)
    sed -E 's|.*<AccessKeyId>([^<]*)</AccessKeyId>.*|AWS_ACCESS_KEY_ID=\1|' <<<"$answer"
    sed -E 's|.*<SecretAccessKey>([^<]*)</SecretAccessKey>.*|AWS_SECRET_ACCESS_KEY=\1|' <<<"$answer"
    sed -E 's|.*<SessionToken>([^<]*)</SessionToken>.*|AWS_SESSION_TOKEN=\1|' <<<"$answer"
}

start() {
    need ceph ceph-mon ceph-osd radosgw radosgw-admin monmaptool curl openssl
    enter_new_directory "${1:-}"
    http_port=${2:-0} https_port=${3:-0}
    [ "$http_port" != 0 ] || http_port=$(free_ports 1)
    [ "$https_port" != 0 ] || https_port=$(free_ports 1)
    monitor_port=$(free_ports 1)
    need_free_ports "$http_port" "$https_port"
    cluster_id=$(cat /proc/sys/kernel/random/uuid)
    certificate="ssl_certificate=tls.crt ssl_private_key=tls.key"

    mkdir run monitor storage
    write_env
    # shellcheck source=/dev/null
    . ./store.env
    write_configuration
    make_certificate
    start_monitor
    start_storage
    start_gateway
    create_user test "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" --caps='user-policy=*'
    wait_for_gateway
    [ -z "${STS:-}" ] || allow_session_tokens
    started
}

set_option() {
    local socket
    case $1 in
        gateway) socket=run/client.rgw.$(cat gateway.pid).asok ;;
        storage) socket=run/osd.0.$(cat storage.pid).asok ;;
        *) fail "gateway or storage, not \"$1\"" ;;
    esac
    ceph daemon "$socket" config set "$2" "$3" >/dev/null
}

export CEPH_CONF=ceph.conf
unset CEPH_ARGS
command=${1:-}
[ -n "$command" ] || fail "see the head of $script"
if [ "$command" = start ]; then
    start "${@:2}"
    exit
fi
enter_directory "${2:-}"
# shellcheck source=/dev/null
. ./store.env
case $command in
    stop) stop_all ;;
    bucket)
        request s3 -o /dev/null -X PUT -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "http://127.0.0.1:$S3_HTTP_PORT/$3"
        ;;
    user) create_user "$3" "$4" "$5" ;;
    rotate) replace_keys "$3" "$4" ;;
    session) print_session ;;
    gateway-kill) kill_daemon gateway ;;
    gateway-start) start_gateway "${3:-}" && wait_for_gateway ;;
    set) set_option "$3" "$4" "$5" ;;
    *) fail "there is no command $command" ;;
esac
