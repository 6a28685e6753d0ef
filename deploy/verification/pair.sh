# shellcheck shell=bash
# Step 2: docker-compose.yml with the demo, and what the pair withstands.

pair() {
    export BITNET_MODEL=demo
    compose_up
    check_confinement
    check_chat "$web_url"
    check_completion "$engine_url"
    passed 'a chat through the page, and one with the engine as the sample asks it'
    twenty_chats
    kill_the_engine_in_mid_answer
    kill_the_page_in_mid_answer
    stop_in_mid_answer
}

compose_up() {
    choose_ports
    compose up --detach --wait --wait-timeout 90 >"$work/compose.log" 2>&1 || failed "compose up: $(tail -20 "$work/compose.log")"
    passed 'docker compose up --wait: both are healthy'
}

check_confinement() {
    local name pid
    for name in "$engine" "$web"; do
        [[ $(inspect "$name" '{{.HostConfig.ReadonlyRootfs}}') == true ]] || failed "$name: the root can be written"
        pid=$(pid "$name")
        if [[ -n $pid ]]; then
            grep --quiet --extended-regexp '^Uid:\s65532\s65532\s65532\s65532$' "/proc/$pid/status" || failed "$name: user"
            grep --quiet --extended-regexp '^CapBnd:\s0+$' "/proc/$pid/status" || failed "$name: capabilities"
            grep --quiet --extended-regexp '^NoNewPrivs:\s1$' "/proc/$pid/status" || failed "$name: new privileges"
        fi
    done
    [[ $(inspect "$web" '{{.HostConfig.Memory}}') == 67108864 && $(inspect "$engine" '{{.HostConfig.Memory}}') == 2147483648 ]] \
        || failed 'the memory limits are others'
    [[ $("${docker[@]}" logs "$engine" 2>&1) == *"threads=$(cpus)"* ]] || failed "the engine does not run as many threads as it has CPUs"
    passed "read-only root, user 65532, no capability, no new privileges; 64 MB, 2 GB and $(cpus) CPUs as limits"
    local container=$label-memory
    # A limit that the kernel does not enforce proves nothing, so here is one that must strike.
    # shellcheck disable=SC2016
    "${docker[@]}" run --name "$container" --label "$label" --memory 64m --memory-swap 64m "$base" perl -e '$x = "a" x (200 << 20)' || true
    [[ $(inspect "$container" '{{.State.OOMKilled}}') == true ]] || failed 'the kernel does not enforce memory limits'
    passed 'the kernel enforces such a limit: it ends a process that takes 200 MB of 64'
}

cpus() {
    local nano
    nano=$(inspect "$engine" '{{.HostConfig.NanoCpus}}')
    echo $((nano / 1000000000))
}

twenty_chats() {
    local chats=() i name
    for i in {1..20}; do
        chat "$web_url" "What is $i times 2?" >"$work/chat.$i" &
        chats+=($!)
    done
    wait "${chats[@]}" || failed 'a chat failed'
    for i in {1..20}; do
        grep --quiet '^event: done' "$work/chat.$i" || failed "chat $i has no end: $(tail -3 "$work/chat.$i")"
    done
    for name in "$engine" "$web"; do
        [[ $(inspect "$name" '{{.State.OOMKilled}} {{.RestartCount}}') == 'false 0' ]] || failed "$name was restarted"
    done
    passed "20 chats at once all end; most memory ever: $(peak "$web") of 64 MB by the page, $(peak "$engine") of 2 GB by the engine"
}

peak() {
    local bytes
    bytes=$(cgroup "$1" memory.max_usage_in_bytes memory.peak)
    if [[ -n $bytes ]]; then megabytes "$bytes"; else echo unknown; fi
}

# A hundredth of a CPU, so that an answer lasts long enough to be interrupted.
slow_down() { "${docker[@]}" update --cpus 0.01 "$engine" >/dev/null; }
speed_up() { "${docker[@]}" update --cpus "$(cpus_of_compose)" "$engine" >/dev/null; }
cpus_of_compose() { echo "${ENGINE_CPUS:-2}"; }

# Sets `chatting`, the process, and returns when the first words are there and the last are not: what comes between them takes the demo less
# time than it may take to look twice, so the engine stands still as soon as it has begun.
begin_slow_chat() {
    has_begun() { grep --quiet '^event: delta' "$work/slow.events"; }
    slow_down
    for _ in {1..20}; do
        rm -f "$work/slow.events"
        chat "$web_url" 'Tell me a long story.' >"$work/slow.events" &
        chatting=$!
        wait_until 60 'the answer begins' has_begun
        signal_engine STOP
        # What was written before is read by now.
        sleep 0.5
        if ! grep --quiet '^event: done' "$work/slow.events"; then return; fi
        signal_engine CONT
        wait "$chatting" || true
    done
    failed 'each answer ended before it could be interrupted'
}

# Where the containers are in another machine, there is no such signal, and the hundredth of a CPU has to do.
signal_engine() {
    local pid
    pid=$(pid "$engine")
    [[ -z $pid ]] || kill "-$1" "$pid"
}

restarted() { (($(inspect "$1" '{{.RestartCount}}') > 0)) && healthy "$1"; }

kill_the_engine_in_mid_answer() {
    local page_began
    page_began=$(inspect "$web" '{{.State.StartedAt}}')
    begin_slow_chat
    crash "$engine"
    wait "$chatting" || true
    grep --quiet '^event: error' "$work/slow.events" || failed "the page does not tell the reader: $(tail -3 "$work/slow.events")"
    speed_up
    wait_until 60 'the engine is healthy again' healthy "$engine"
    wait_until 30 'the page is ready again' answers "$web_url/ready"
    check_chat "$web_url"
    [[ $(inspect "$web" '{{.State.StartedAt}}') == "$page_began" ]] || failed 'the page was restarted too'
    passed "engine killed in mid-answer: the page says so ($(grep --after-context 1 '^event: error' "$work/slow.events" | tail -1)), lives on, and answers again"
}

kill_the_page_in_mid_answer() {
    local engine_began
    engine_began=$(inspect "$engine" '{{.State.StartedAt}}')
    begin_slow_chat
    crash "$web"
    signal_engine CONT
    wait "$chatting" || true
    ! grep --quiet '^event: done' "$work/slow.events" || failed 'a cut answer looks complete'
    speed_up
    wait_until 60 'the page is healthy again' healthy "$web"
    check_chat "$web_url"
    [[ $(inspect "$engine" '{{.State.StartedAt}}') == "$engine_began" ]] || failed 'the engine was restarted too'
    passed 'page killed in mid-answer: the engine lives on, the page comes back and answers'
}

# The answer that is running may take the time that both programs give it; then they end by themselves.
stop_in_mid_answer() {
    local name seconds=$SECONDS
    begin_slow_chat
    signal_engine CONT
    compose stop >"$work/compose.log" 2>&1
    seconds=$((SECONDS - seconds))
    wait "$chatting" || true
    for name in "$engine" "$web"; do
        [[ $(inspect "$name" '{{.State.ExitCode}}') == 0 ]] || failed "$name: exit code $(inspect "$name" '{{.State.ExitCode}}') after SIGTERM"
    done
    passed "SIGTERM in mid-answer: both end with exit code 0, $seconds s after the question"
    compose down --volumes >"$work/compose.log" 2>&1
}
