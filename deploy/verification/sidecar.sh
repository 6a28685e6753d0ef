# shellcheck shell=bash
# Step 4: the shape of App Service and of a Kubernetes pod: two containers in one network namespace, in no order.

sidecar() {
    sidecar_in_order engine web
    sidecar_in_order web engine
}

# sidecar_in_order FIRST SECOND
sidecar_in_order() {
    local namespace=$label-namespace address second=$label-$2
    # The namespace belongs to neither, as on those platforms, and has no address in IPv6, but the loopback one.
    run_container --name "$namespace" --publish 127.0.0.1::8080 "$base" sleep 600
    address=http://$(published "$namespace" 8080)
    start_sidecar "$1"
    if [[ $1 == web ]]; then
        wait_until 30 'the page is there' answers "$address/"
        ! answers "$address/ready" || failed 'the page says that it is ready without an engine'
        # Sent before the engine is there: the page waits for it.
        chat "$address" 'Who are you?' >"$work/early.events" &
        local early=$!
        sleep 1
        start_sidecar engine
        wait "$early" || failed 'the early chat failed'
        grep --quiet '^event: done' "$work/early.events" || failed "the early chat has no end: $(tail -3 "$work/early.events")"
    else
        wait_until 30 'the engine is healthy' healthy "$label-engine"
        start_sidecar web
    fi
    wait_until 30 'the page is ready' answers "$address/ready"
    check_chat "$address"
    wait_until 30 "$second is healthy" healthy "$second"
    passed "$1 first, $2 second: the page answers$([[ $1 == engine ]] || echo ', also the chat that was sent before the engine was there')"

    "${docker[@]}" stop --time 15 "$label-engine" "$label-web" >/dev/null
    for name in engine web; do
        [[ $(inspect "$label-$name" '{{.State.ExitCode}}') == 0 ]] || failed "$name: exit code after SIGTERM"
    done
    "${docker[@]}" rm --force "$label-engine" "$label-web" "$namespace" >/dev/null
}

# With the variables that Kubernetes makes for a Service called "bitnet" or "web", which must not count.
start_sidecar() {
    run_container --name "$label-$1" --network "container:$label-namespace" --env ENGINE_URL=http://localhost:11434 \
        --env BITNET_PORT=tcp://10.0.0.7:11434 --env BITNET_SERVICE_PORT=11434 --env WEB_PORT=tcp://10.0.0.8:8080 "bitnet-$1:verify"
}
