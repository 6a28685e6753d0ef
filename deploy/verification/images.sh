# shellcheck shell=bash
# Step 1: the four images, and what is in them.

build() {
    local image=$1 file=$2
    shift 2
    # The builder's output is only of interest when it fails; the step that changes a source line reads it, too.
    DOCKER_BUILDKIT=1 "${docker[@]}" build --progress plain --file "$file" --target "$image" --tag "bitnet-$image:verify" \
        --build-arg "REVISION=$revision" "$@" >"$work/build.log" 2>&1 || failed "docker build: $(tail -40 "$work/build.log")"
}

# The names of the images are those of the targets, but for two that would be only "engine" and "web".
build_images() {
    local seconds
    for image in engine web standalone; do
        seconds=$SECONDS
        build "$image" "$(dockerfile "$image")" "$root"
        passed "built $image in $((SECONDS - seconds)) s"
    done
    build_with_model
}

dockerfile() {
    case $1 in
        engine*) echo "$root/Dockerfile.engine" ;;
        *) echo "$root/Dockerfile.web" ;;
    esac
}

# From a hub that breaks off in the middle: the engine's own `pull` runs in the build.
build_with_model() {
    start_hub --break-after 700000
    build engine-with-model "$root/Dockerfile.engine" --build-arg MODEL=hf:test/model/model.gguf --build-arg "HF_ENDPOINT=$hub" "$root"
    local transfers
    transfers=$(grep --count sent "$work/hub.log" 2>/dev/null || true)
    # A builder that has the model from an earlier run asks nobody.
    passed "built engine-with-model, $(case ${transfers:-0} in
        0) echo "with the model in the builder's cache" ;;
        *) echo "with the model from $hub in $transfers transfers" ;;
    esac)"
    stop_by_pid_file "$work/hub.pid"
}

images() {
    build_images
    # With a model the limit is the model's size on top.
    check_image engine bitnet-engine 40
    check_image engine-with-model bitnet-engine 42
    check_image web bitnet-web 25
    check_image standalone bitnet-chat 40
    the_root_is_read_only
}

# check_image TARGET PROGRAM MEGABYTES
check_image() {
    local image=bitnet-$1:verify size files container
    size=$("${docker[@]}" image inspect --format '{{.Size}}' "$image")
    ((size < $3 * 1000000)) || failed "$image has $(megabytes "$size"), more than $3 MB"
    [[ $(inspect "$image" '{{.Config.User}}') == 65532:65532 ]] || failed "$image: the user is $(inspect "$image" '{{.Config.User}}')"
    [[ $(inspect "$image" '{{json .Config.Entrypoint}}') == "[\"/usr/local/bin/$2\"]" ]] || failed "$image: entry point"
    [[ $(inspect "$image" '{{json .Config.Healthcheck.Test}}') == "[\"CMD\",\"/usr/local/bin/$2\",\"healthcheck\"]" ]] \
        || failed "$image: health check"
    for name in title description licenses version revision; do
        [[ -n $(inspect "$image" "{{index .Config.Labels \"org.opencontainers.image.$name\"}}") ]] || failed "$image: no label $name"
    done
    [[ $(inspect "$image" '{{index .Config.Labels "org.opencontainers.image.version"}}') == "$version" ]] \
        || failed "$image: the label says another version than Cargo.toml"
    container=$("${docker[@]}" create --label "$label" "$image")
    # Docker itself adds what is mounted over in every container.
    files=$("${docker[@]}" export "$container" | tar --list | grep --invert-match --extended-regexp '/$|^\.dockerenv$|^dev/console$' \
        | grep --invert-match --line-regexp --extended-regexp 'etc/(hostname|hosts|mtab|resolv.conf)' | sort)
    "${docker[@]}" rm "$container" >/dev/null
    local expected=$'etc/nsswitch.conf\netc/ssl/certs/ca-certificates.crt\n'
    [[ $1 != engine-with-model ]] || expected+=$'model/model.gguf\n'
    [[ $files == "${expected}usr/local/bin/$2" ]] || failed "$image holds other files than expected: $files"
    passed "$image: $(megabytes "$size"), user 65532, $(wc -l <<<"$files") files and no shell among them, labels, version $version"
}

# As far as the programs can tell; the compose file's own settings are looked at where it runs.
the_root_is_read_only() {
    local output
    output=$("${docker[@]}" run --rm --label "$label" --read-only "$base" sh -c 'touch /x' 2>&1) && failed 'the root can be written'
    [[ $output == *'Read-only file system'* ]] || failed "$output"
    run_container --name "$label-read-only" --network none bitnet-engine:verify
    wait_until 30 'the engine is healthy on a read-only root, without any network' healthy "$label-read-only"
    passed 'the engine starts with a read-only root, no capability and no network'
}
