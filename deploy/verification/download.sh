# shellcheck shell=bash
# Step 3: the pair with a model that is downloaded first, from a hub that breaks off once, and from one whose file the disk cannot hold.

download() {
    download_through_a_break
    use_a_file_of_the_project
    download_to_a_full_disk
}

download_through_a_break() {
    start_hub --bytes-per-second 300000 --break-after 700000
    export BITNET_MODEL=hf:test/model/model.gguf HF_ENDPOINT=$hub
    choose_ports
    compose up --detach >"$work/compose.log" 2>&1 || failed "compose up: $(tail -20 "$work/compose.log")"
    is_downloading() { get "$engine_url/health" 2>/dev/null | grep --quiet '"status":"downloading"'; }
    wait_until 30 'the engine says that it downloads' is_downloading
    local progress
    progress=$(get "$engine_url/health")
    wait_until 10 'the page is there' answers "$web_url/"
    ! answers "$web_url/ready" || failed 'the page says that it is ready'
    passed "while it downloads the page is there, and the engine says $(grep --only-matching '"progress":{[^}]*}' <<<"$progress")"
    wait_until 90 'the model is downloaded and loaded' answers "$web_url/ready"
    check_chat "$web_url"
    grep --quiet 'from 0 sent' "$work/hub.log" || failed "no first transfer: $(<"$work/hub.log")"
    grep --quiet 'from [1-9][0-9]* sent' "$work/hub.log" || failed "it was not resumed: $(<"$work/hub.log")"
    passed "downloaded in two parts ($(sed --quiet 's/^.*\(from\)/\1/p' "$work/hub.log" | paste --serial --delimiters ';')), verified, and answers"

    [[ $(files_in "${label}_models") == *.gguf ]] || failed "the volume holds $(files_in "${label}_models")"
    local requests
    requests=$(wc -l <"$work/hub.log")
    compose up --detach --force-recreate --wait --wait-timeout 60 >"$work/compose.log" 2>&1 || failed "$(tail -20 "$work/compose.log")"
    check_chat "$web_url"
    [[ $(wc -l <"$work/hub.log") == "$requests" ]] || failed "downloaded again: $(<"$work/hub.log")"
    compose down --volumes >"$work/compose.log" 2>&1
    stop_by_pid_file "$work/hub.pid"
    passed 'new containers find the model in the volume and ask the hub nothing'
}

# files_in VOLUME: with their folders, one a line.
files_in() { "${docker[@]}" run --rm --label "$label" --volume "$1:/volume" "$base" find /volume -type f; }

# As in the first lines of docker-compose.yml, with the same path inside as outside.
use_a_file_of_the_project() {
    local file=models/verify.gguf
    # shellcheck disable=SC2064
    trap "rm -f '$root/$file'" EXIT
    cp "$fixture" "$file"
    export BITNET_MODEL=./$file
    unset HF_ENDPOINT
    compose_up
    check_chat "$web_url"
    [[ $(get "$engine_url/v1/models") == *verify* ]] || failed "another model is served: $(get "$engine_url/v1/models")"
    compose down --volumes >"$work/compose.log" 2>&1
    rm -f "$file"
    passed "BITNET_MODEL=./$file is the file in ./models"
}

download_to_a_full_disk() {
    local volume=$label-small container=$label-full-disk
    start_hub
    "${docker[@]}" volume create --label "$label" --driver local --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,uid=65532 "$volume" \
        >/dev/null
    # Keeps the disk there when the engine has ended.
    run_container --name "$label-disk" --volume "$volume:/volume" "$base" sleep 300
    run_container --name "$container" --volume "$volume:/models" --env BITNET_MODEL=hf:test/model/model.gguf --env "HF_ENDPOINT=$hub" \
        bitnet-engine:verify
    wait_until 30 'the engine gives up' exited "$container"
    [[ $(inspect "$container" '{{.State.ExitCode}}') != 0 ]] || failed 'a full disk is an exit code of 0'
    local message
    message=$("${docker[@]}" logs "$container" 2>&1 | grep 'no room' | tail -1) || failed 'the error does not say that there is no room'
    [[ -z $("${docker[@]}" exec "$label-disk" find /volume -type f) ]] || failed 'something half done is left'
    passed "a disk of 1 MB: nothing is left there, and the engine ends with \"${message/#*no room/…no room}\""
}
