# shellcheck shell=bash
# Step 5: one container: `standalone`, and the engine that has its model inside.

single() {
    standalone_with_demo
    standalone_on_the_samples_port
    engine_with_model
    if ! $quick; then change_a_line; fi
}

standalone_with_demo() {
    local container=$label-standalone address
    run_container --name "$container" --publish 127.0.0.1::8080 --memory 512m bitnet-standalone:verify
    address=http://$(published "$container" 8080)
    wait_until 30 'the page is ready' answers "$address/ready"
    wait_until 30 'the container is healthy' healthy "$container"
    check_chat "$address"
    "${docker[@]}" stop --time 15 "$container" >/dev/null
    [[ $(inspect "$container" '{{.State.ExitCode}}') == 0 ]] || failed 'exit code after SIGTERM'
    passed 'standalone: docker run --publish 8080:8080 answers, and SIGTERM ends it with exit code 0'
}

standalone_on_the_samples_port() {
    local container=$label-port address
    run_container --name "$container" --publish 127.0.0.1::11434 --env PORT=11434 bitnet-standalone:verify
    address=http://$(published "$container" 11434)
    wait_until 30 'the page is ready on port 11434' answers "$address/ready"
    wait_until 30 'the container is healthy' healthy "$container"
    check_chat "$address"
    passed 'standalone with PORT=11434: the page is there'
}

engine_with_model() {
    local container=$label-model address
    # An address that leads nowhere: the model has to be inside.
    run_container --name "$container" --publish 127.0.0.1::11434 --env HF_ENDPOINT=http://127.0.0.1:9 bitnet-engine-with-model:verify
    address=http://$(published "$container" 11434)
    wait_until 30 'the engine is healthy' healthy "$container"
    check_completion "$address"
    [[ $(get "$address/v1/models") == *model* ]] || failed "$(get "$address/v1/models")"
    passed 'engine-with-model: serves the model inside it, and needs no hub'
}

# What a developer pays for a changed line, and what a registry pays for the model's layer then.
change_a_line() {
    local copy=$work/changed image=bitnet-engine-with-model:verify seconds=$SECONDS before after
    rm -rf "$copy"
    mkdir "$copy"
    tar --create --exclude=./target --exclude=./.git . | tar --extract --directory "$copy"
    printf '\n// A changed line.\n' >>"$copy/crates/engine/src/lib.rs"
    before=$(model_layer "$image")
    start_hub
    build engine-with-model "$copy/Dockerfile.engine" --build-arg MODEL=hf:test/model/model.gguf --build-arg "HF_ENDPOINT=$hub" "$copy"
    after=$(model_layer "$image")
    rm -rf "$copy"
    ! grep --quiet 'Compiling tokenizers' "$work/build.log" || failed 'the dependencies were built again'
    grep --quiet 'Compiling bitnet-engine' "$work/build.log" || failed 'the engine was not built again'
    [[ $before == "$after" ]] || failed "the model's layer has changed: $before, $after"
    ! grep --quiet sent "$work/hub.log" || failed 'the model was downloaded again'
    passed "a changed line of the engine: built in $((SECONDS - seconds)) s; no dependency built, no model downloaded, its layer the same"
}

# The second of the image: the first is what all images have around the program.
model_layer() { inspect "$1" '{{index .RootFS.Layers 1}}'; }
