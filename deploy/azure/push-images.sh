#!/usr/bin/env bash
# Builds the images that one variant needs and pushes them to a container registry of Azure. Needs Docker, and `az login` before.
# The platform runs amd64 only, so that is what is built, on any machine.
set -euo pipefail

if (($# != 3)); then
    echo "usage: push-images.sh REGISTRY sidecar|sidecar-download|standalone TAG" >&2
    exit 2
fi
registry=$1 variant=$2 tag=$3
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
server=$(az acr show --name "$registry" --query loginServer --output tsv)
az acr login --name "$registry"

push() {
    local file=$1 target=$2 image=$server/$3:$tag
    docker build --platform linux/amd64 --file "$file" --target "$target" --build-arg REVISION="$revision" --tag "$image" .
    docker push "$image"
}

case $variant in
sidecar)
    push Dockerfile.web web bitnet-web
    push Dockerfile.engine engine-with-model bitnet-engine-with-model
    ;;
sidecar-download)
    push Dockerfile.web web bitnet-web
    push Dockerfile.engine engine bitnet-engine
    ;;
standalone) push Dockerfile.web standalone bitnet-chat ;;
*)
    echo "push-images.sh: no variant is called $variant" >&2
    exit 2
    ;;
esac
