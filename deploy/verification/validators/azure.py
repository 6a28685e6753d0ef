"""deploy/azure: the two templates, their parameters, and the list of containers for the CLI."""

import json
import os
from pathlib import Path

from . import arm, bicep
from .refusal import Missing, Refused
from .schema import Schemas

FOLDER = "deploy/azure"
TEMPLATES = ("main.bicep", "main.json")
# What every deployment has to name, and sizes that take the other branch of a condition.
NAMES = {"siteName": "chat-example", "registryName": "registryexample"}
VARIATIONS = ({}, {"planSize": "B3"}, {"drainSeconds": 110, "startSeconds": 1800, "minimumInstances": 2, "imageTag": "7"})
SITE_CONTAINER = "Microsoft.Web/sites/sitecontainers"


def read(tree, name):
    return json.loads((tree / FOLDER / name).read_text())


def parameter_sets(tree):
    """Each parameters file under each variation, by name."""
    found = {"defaults": {}}
    for path in sorted((tree / FOLDER).glob("parameters.*.json")):
        found[path.name] = {name: one["value"] for name, one in read(tree, path.name)["parameters"].items()}
    return {f"{name} {extra or ''}".strip(): NAMES | given | extra for name, given in found.items() for extra in VARIATIONS}


def difference(left, right, path, names):
    """Where two values of these names differ first, or None."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            if key not in left or key not in right:
                return f"{path}.{key} is only in {names[key in right]}"
            if found := difference(left[key], right[key], f"{path}.{key}", names):
                return found
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (one, other) in enumerate(zip(left, right)):
            if found := difference(one, other, f"{path}[{index}]", names):
                return found
    elif type(left) is not type(right) or left != right:
        return f"{path}: {names[0]} has {left!r}, {names[1]} {right!r}"
    return None


def bicep_is_well_formed(tree):
    source = (tree / FOLDER / "main.bicep").read_text()
    bicep.refuse_syntax_errors(source)
    return f"{len(source.splitlines())} lines"


def templates_agree(tree):
    source, template = (tree / FOLDER / "main.bicep").read_text(), read(tree, "main.json")
    resources = 0
    for name, given in parameter_sets(tree).items():
        ours, theirs = bicep.Template(source, given), arm.Template(template, given)
        for what in ("resources", "outputs"):
            one, other = getattr(ours, what)(), getattr(theirs, what)()
            resources += len(one) if what == "resources" else 0
            if found := difference(one, other, what, TEMPLATES):
                raise Refused(f"{name}: {found}")
    declared = [language.parameters() for language in (bicep.Template(source, NAMES), arm.Template(template, NAMES))]
    if found := difference(*declared, "parameters", TEMPLATES):
        raise Refused(found)
    return f"{resources} resources under {len(parameter_sets(tree))} sets of parameters"


def template_fits_schema(tree):
    folder = os.environ.get("BITNET_AZURE_SCHEMAS")
    if not folder:
        message = "BITNET_AZURE_SCHEMAS is not set: it names a folder with Azure's schemas Microsoft.Web.2024-11-01.json and definitions.json"
        raise Missing(message, required=True)
    schemas = Schemas(Path(folder))
    template = read(tree, "main.json")
    evaluate = arm.Template(template, NAMES).value
    checked, without = 0, set()
    for resource in template["resources"]:
        if not schemas.knows(resource):
            without.add(resource["type"])
            continue
        try:
            schemas.check_resource(resource)
        except Refused as refusal:
            # Some types have a schema for each name that they may have: an expression fits all of these at once, and so none.
            named = resource | {"name": evaluate(resource["name"])}
            try:
                schemas.check_resource(named)
            except Refused:
                raise Refused(f"main.json, {named['name']}: {refusal}") from refusal
        checked += 1
    for container in read(tree, "sitecontainers.json"):
        try:
            schemas.check_definition("SiteContainerProperties", container["properties"])
        except Refused as refusal:
            raise Refused(f"sitecontainers.json, {container['name']}: {refusal}") from refusal
    return f"{checked} resources; no schema here for {', '.join(sorted(without))}"


def containers_of(resources):
    return {one["name"].split("/")[1]: one["properties"] for one in resources.values() if one["type"] == SITE_CONTAINER}


def settings_of(resources):
    sites = [one for one in resources.values() if one["type"] == "Microsoft.Web/sites"]
    return {setting["name"]: setting["value"] for setting in sites[0]["properties"]["siteConfig"]["appSettings"]}


def check_containers(containers, settings):
    """What App Service and its CLI ask for, beyond the schema."""
    mains = [name for name, one in containers.items() if one["isMain"]]
    if len(mains) != 1:
        raise Refused(f"exactly one container is the main one, not {len(mains)}: {mains}")
    ports = [one["targetPort"] for one in containers.values()]
    if not all(isinstance(port, str) and port.isdecimal() for port in ports):
        raise Refused(f"a targetPort is a number in a string: {ports}")
    if len(set(ports)) != len(ports):
        raise Refused(f"two containers have the same targetPort: {ports}")
    if containers[mains[0]]["targetPort"] not in ("80", "8080"):
        raise Refused(f"the platform reaches only 80 and 8080 from outside, not {containers[mains[0]]['targetPort']}")
    for name, one in containers.items():
        for variable in one["environmentVariables"]:
            if variable["value"] not in settings:
                raise Refused(f"{name}: the value of {variable['name']} is no app setting's name: {variable['value']}")


def platform_rules_hold(tree):
    template = read(tree, "main.json")
    sets = parameter_sets(tree)
    for name, given in sets.items():
        evaluated = arm.Template(template, given)
        resources, outputs = evaluated.resources(), evaluated.outputs()
        containers, settings = containers_of(resources), settings_of(resources)
        try:
            check_containers(containers, settings)
            if outputs["containerCount"] != len(containers):
                raise Refused(f"{len(containers)} containers, but containerCount is {outputs['containerCount']}")
            stop, start = (int(settings[f"WEBSITES_CONTAINER_{what}_TIME_LIMIT"]) for what in ("STOP", "START"))
            drains = [int(settings[drain]) for drain in ("DRAIN_TIMEOUT", "BITNET_SHUTDOWN_TIMEOUT")]
            if not max(drains) < stop <= 120 or drains[1] < drains[0]:
                raise Refused(f"page {drains[0]} s, engine {drains[1]} s, platform {stop} s: each outlasts the one before, 120 at most")
            if not 230 <= start <= 1800:
                raise Refused(f"a start limit is 230 to 1800 s, not {start}")
            baked = any("with-model" in one["image"] for one in containers.values())
            if baked == ("BITNET_MODEL" in settings):
                raise Refused("BITNET_MODEL is set exactly when the image has no model")
        except Refused as refusal:
            raise Refused(f"{name}: {refusal}") from refusal
    return f"{len(sets)} sets of parameters"


def cli_list_agrees(tree):
    template = arm.Template(read(tree, "main.json"), NAMES | {"variant": "sidecar"})
    resources = template.resources()
    wanted, settings = containers_of(resources), settings_of(resources)
    client = template.outputs()["identityClientId"]
    filled = (tree / FOLDER / "sitecontainers.json").read_text()
    registry = wanted["web"]["image"].removesuffix("/bitnet-web:latest")
    for placeholder, value in (("REGISTRY_SERVER", registry), ("IDENTITY_CLIENT_ID", client), ("IMAGE_TAG", "latest")):
        filled = filled.replace(placeholder, value)
    listed = json.loads(filled)
    if any(one.keys() != {"name", "properties"} for one in listed):
        raise Refused("each container has a name and properties, nothing else: the CLI takes no other key")
    found = {one["name"]: one["properties"] for one in listed}
    # The CLI has no such option.
    wanted = {name: {key: item for key, item in one.items() if not key.startswith("inherit")} for name, one in wanted.items()}
    if found != wanted:
        raise Refused(difference(wanted, found, "containers", ("main.json", "sitecontainers.json")))
    check_containers(found, settings)
    return ", ".join(f"{name} on {one['targetPort']}" for name, one in found.items())
