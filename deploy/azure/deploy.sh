#!/usr/bin/env bash
# Deploys the template and proves that Azure has what was asked for: the number of containers, exactly one main, and a page that is ready.
# The images are in the registry already (README.md).
set -euo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: deploy.sh GROUP REGISTRY SITE [NAME=VALUE …]

GROUP     resource group; the registry is in it
REGISTRY  name of the container registry, without .azurecr.io
SITE      name of the web app: https://SITE.azurewebsites.net
NAME=VALUE  parameters of main.bicep, such as imageTag=1 planSize=P2v3

PARAMETERS (environment) is the parameters file, parameters.sidecar.json by default.
WAIT (environment) is how many seconds the page may take to become ready, 1800 by default.
TEXT
    exit 2
}

(($# >= 3)) || usage
group=$1 registry=$2 site=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parameters=${PARAMETERS:-$here/parameters.sidecar.json}
patience=${WAIT:-1800}

# ARM JSON, which needs no Bicep compiler.
expected=$(az deployment group create --resource-group "$group" --name "$site" --template-file "$here/main.json" \
    --parameters "@$parameters" --parameters siteName="$site" registryName="$registry" "$@" \
    --query properties.outputs.containerCount.value --output tsv)

echo "containers of $site:"
az webapp sitecontainers list --resource-group "$group" --name "$site" \
    --query '[].{name: name, main: isMain, port: targetPort, image: image}' --output table
found=$(az webapp sitecontainers list --resource-group "$group" --name "$site" --query 'length(@)' --output tsv)
mains=$(az webapp sitecontainers list --resource-group "$group" --name "$site" --query 'length([?isMain])' --output tsv)
if [[ $found != "$expected" || $mains != 1 ]]; then
    echo "deploy.sh: $expected containers and one main were expected, Azure has $found and $mains" >&2
    exit 1
fi

host=$(az webapp show --resource-group "$group" --name "$site" --query defaultHostName --output tsv)
echo "waiting for https://$host/ready; the images are pulled and the model is loaded now"
deadline=$((SECONDS + patience))
# 200 is ready. With built-in sign-in 401 or 302 comes before the page, so the readiness cannot be seen from here.
while status=$(curl --silent --output /dev/null --max-time 30 --write-out '%{http_code}' "https://$host/ready" || true); do
    case $status in
    200) echo "ready: https://$host" && exit 0 ;;
    401 | 302) echo "signed-in users only: open https://$host in a browser" && exit 0 ;;
    esac
    if ((SECONDS >= deadline)); then
        echo "deploy.sh: not ready after $patience s, the last status was $status; see the logs: README.md, \"When it does not start\"" >&2
        exit 1
    fi
    sleep 10
done
