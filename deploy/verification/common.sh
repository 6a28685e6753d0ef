# shellcheck shell=bash
# What all steps of deploy/verify use: saying what was checked, waiting, asking the servers, and reading what a container may and does.

# The time since the last one of these lines is the time that this check took.
mark=${EPOCHREALTIME/[.,]/}

passed() {
    local now=${EPOCHREALTIME/[.,]/}
    local tenths=$(((now - mark) / 100000))
    printf '  ok  %6d.%d s  %s\n' $((tenths / 10)) $((tenths % 10)) "$*"
    mark=$now
}

failed() {
    printf '  FAILED         %s\n' "$*" >&2
    exit 1
}

# wait_until SECONDS WHAT COMMAND…: until the command succeeds.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || failed "waited in vain until $what"
        sleep 0.2
    done
}

free_port() {
    python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

megabytes() {
    printf '%d.%d MB' $(($1 / 1000000)) $(($1 / 100000 % 10))
}

# --- asking the servers

get() { curl --silent --show-error --max-time 10 "$@"; }
answers() { get --fail --output /dev/null "$1" 2>/dev/null; }

# chat URL TEXT: what the sample's front end sends; prints the events. The text needs no escapes in JSON.
chat() {
    curl --silent --no-buffer --max-time 120 --header 'content-type: application/json' \
        --data "{\"message\": \"$2\"}" "$1/chat"
}

check_chat() {
    local events=$work/chat.events
    chat "$1" 'Who are you?' >"$events" || failed "$1/chat does not answer"
    grep --quiet '^event: done' "$events" || failed "the answer has no end: $(tail -3 "$events")"
    grep --quiet '^data: {"text":' "$events" || failed 'the answer is empty'
}

# The engine alone, asked as the sample's back end does.
check_completion() {
    local answer
    answer=$(get "$1/v1/chat/completions" --header 'content-type: application/json' --data '{
        "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Who are you?"}],
        "stream": true, "cache_prompt": false, "n_predict": 32}') || failed "$1 does not answer"
    grep --quiet '^data: \[DONE\]' <<<"$answer" || failed "no whole answer: $(tail -3 <<<"$answer")"
}

# --- containers

# Whatever a step starts has this label, or is of the compose project of this name.
label=bitnet-verify

run_container() {
    "${docker[@]}" run --detach --label "$label" --read-only --cap-drop ALL --security-opt no-new-privileges "$@" >/dev/null
}

inspect() { "${docker[@]}" inspect --format "$2" "$1"; }
healthy() { [[ $(inspect "$1" '{{.State.Health.Status}}') == healthy ]]; }
exited() { [[ $(inspect "$1" '{{.State.Status}}') == exited ]]; }

# Where a container's web server is on this machine.
published() { "${docker[@]}" port "$1" "$2" | head -1; }

# pid CONTAINER: nothing where the containers are in another machine (Docker Desktop).
pid() {
    local pid
    pid=$(inspect "$1" '{{.State.Pid}}')
    if [[ -r /proc/$pid/cgroup ]] && grep --quiet "$(inspect "$1" '{{.Id}}')" "/proc/$pid/cgroup"; then echo "$pid"; fi
}

# cgroup CONTAINER V1-FILE V2-FILE: the kernel's own figure.
cgroup() {
    local pid path
    pid=$(pid "$1")
    [[ -n $pid ]] || return 0
    path=$(sed --quiet 's/^[0-9]*:memory:\(.*\)/\1/p' "/proc/$pid/cgroup")
    if [[ -n $path ]]; then
        cat "/sys/fs/cgroup/memory$path/$2"
    else
        cat "/sys/fs/cgroup$(sed --quiet 's/^0:://p' "/proc/$pid/cgroup")/$3"
    fi
}

# A crash, which the restart policy has to mend. What `docker kill` ends stays down on purpose, so the signal comes from outside.
crash() {
    local pid
    pid=$(pid "$1")
    if [[ -n $pid ]] && kill -KILL "$pid" 2>/dev/null; then return; fi
    "${docker[@]}" kill "$1" >/dev/null
    "${docker[@]}" start "$1" >/dev/null
}

compose() {
    "${docker_compose[@]}" --project-name "$label" --project-directory "$root" \
        --file "$root/docker-compose.yml" --file "$root/deploy/verification/compose.yml" "$@"
}

# Fixed ports, so that a restarted container is where it was.
choose_ports() {
    PUBLISH_WEB=127.0.0.1:$(free_port) PUBLISH_ENGINE=127.0.0.1:$(free_port)
    export PUBLISH_WEB PUBLISH_ENGINE
    web_url=http://$PUBLISH_WEB engine_url=http://$PUBLISH_ENGINE
    web=$label-web-1 engine=$label-engine-1
}

container_logs() {
    local name
    for name in $("${docker[@]}" ps --all --format '{{.Names}}' --filter "label=$label") \
        $("${docker[@]}" ps --all --format '{{.Names}}' --filter "label=com.docker.compose.project=$label"); do
        printf '\n--- log of %s (%s)\n' "$name" "$(inspect "$name" '{{.State.Status}}, exit code {{.State.ExitCode}}, OOM {{.State.OOMKilled}}')"
        "${docker[@]}" logs --tail 40 "$name" 2>&1
    done
}

# After each step, and when this program is ended in the middle of one.
tidy() {
    stop_by_pid_file "$work/hub.pid"
    local containers=() volumes=()
    "${docker[@]}" version >/dev/null 2>&1 || return 0
    mapfile -t containers < <("${docker[@]}" ps --all --quiet --filter "label=$label")
    ((${#containers[@]} == 0)) || "${docker[@]}" rm --force --volumes "${containers[@]}" >/dev/null
    if [[ -n ${docker_compose:-} ]]; then compose down --volumes --timeout 1 >/dev/null 2>&1; fi
    mapfile -t volumes < <("${docker[@]}" volume ls --quiet --filter "label=$label")
    ((${#volumes[@]} == 0)) || "${docker[@]}" volume rm "${volumes[@]}" >/dev/null
}

stop_by_pid_file() {
    [[ -s $1 ]] || return 0
    local pid deadline=$((SECONDS + 20))
    pid=$(<"$1")
    rm -f "$1"
    kill "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.1; done
}

# --- the hub on this machine

# start_hub [OPTION…]: serves the fixture below as hf:test/model/model.gguf; $hub is its address as containers see it.
fixture=tests/fixtures/nano64/model-i2_s.gguf
start_hub() {
    rm -f "$work/hub.port"
    : >"$work/hub.log"
    local gateway listen=127.0.0.1 name=host.docker.internal
    gateway=$("${docker[@]}" network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}')
    # Docker Desktop leads host.docker.internal to this machine's loopback; elsewhere the bridge's own address is this machine.
    if python3 -c 'import socket, sys; socket.create_server((sys.argv[1], 0))' "$gateway" 2>/dev/null; then
        listen=$gateway name=$gateway
    fi
    python3 "$root/deploy/verification/hub.py" --listen "$listen" --port-file "$work/hub.port" --log "$work/hub.log" "$@" \
        "$root/$fixture" &
    echo $! >"$work/hub.pid"
    wait_until 10 'the hub listens' test -s "$work/hub.port"
    hub=http://$name:$(<"$work/hub.port")
}
