"""deploy/kubernetes: all overlays as they are applied, against Kubernetes' and KEDA's own schemas and against our rules."""

import shutil
import subprocess

import kubernetes_validate
import pydantic
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from . import kustomize
from .refusal import Missing, Refused

FOLDER = "deploy/kubernetes"
# The oldest with `preStop: sleep` and native sidecars that need no switch, and the newest that is known here.
VERSIONS = ("1.30", kubernetes_validate.latest_version())


def overlays(tree):
    """Name → objects by identity."""
    return {path.parent.name: kustomize.build(path.parent) for path in sorted((tree / FOLDER / "overlays").glob("*/kustomization.yaml"))}


def fits_schema(tree):
    count = 0
    for name, objects in overlays(tree).items():
        for one in objects.values():
            if one["kind"] == "ScaledObject":
                check_scaled_object(one)
                count += 1
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    place = ".".join(str(part) for part in error.path)
                    raise Refused(f"{name}, {one['kind']}: {place}: {error.message[:200]}") from error
            count += 1
    return f"{count} objects of {len(overlays(tree))} overlays, Kubernetes {VERSIONS[0]} and {VERSIONS[1]}"


def check_scaled_object(one):
    """Against KEDA's types. They pass over what they do not know, so what comes out of them has to be what went in."""
    try:
        read = ScaledObject.model_validate(one).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except pydantic.ValidationError as error:
        raise Refused(f"ScaledObject: {error}") from error
    if read != one:
        lost = [key for key in one["spec"] if read["spec"].get(key) != one["spec"][key]]
        raise Refused(f"ScaledObject: KEDA does not know something in {lost or list(one)}")


def in_order(node, key=None):
    """With the lists sorted whose order means nothing."""
    if isinstance(node, dict):
        return {name: in_order(item, name) for name, item in node.items()}
    if isinstance(node, list):
        items = [in_order(item) for item in node]
        return sorted(items, key=lambda item: item[kustomize.MERGE_KEYS[key]]) if key in kustomize.MERGE_KEYS else items
    return node


def same_as_kustomize(tree):
    command = next((found for found in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(found[0])), None)
    if command is None:
        raise Missing("neither kustomize nor kubectl is installed here", required=False)
    for name, objects in overlays(tree).items():
        run = subprocess.run([*command, tree / FOLDER / "overlays" / name], capture_output=True, text=True)
        if run.returncode:
            raise Refused(f"{name}: {run.stderr.strip()}")
        theirs = {kustomize.identity(one): one for one in yaml.safe_load_all(run.stdout)}
        if in_order(list(theirs[key] for key in sorted(theirs, key=str))) != in_order(list(objects[key] for key in sorted(objects, key=str))):
            raise Refused(f"{name}: {' '.join(command)} builds something else than validators/kustomize.py")
    return " ".join(command)


def only(objects, kind):
    found = [one for one in objects.values() if one["kind"] == kind]
    if len(found) != 1:
        raise Refused(f"{len(found)} objects of kind {kind}")
    return found[0]


def our_rules_hold(tree):
    built = overlays(tree)
    for name, objects in built.items():
        try:
            check(objects)
        except Refused as refusal:
            raise Refused(f"{name}: {refusal}") from refusal
    return ", ".join(built)


def check(objects):
    pod = only(objects, "Deployment")["spec"]["template"]
    spec = pod["spec"]
    (engine,), (web,) = spec["initContainers"], spec["containers"]
    variables = {one["name"]: one["value"] for container in (engine, web) for one in container.get("env", [])}
    require(engine.get("restartPolicy") == "Always", "the engine is a native sidecar")
    kinds = [one["kind"] for one in objects.values()]
    monitored = "ScaledObject" in kinds
    require(variables.get("BITNET_HOST") == ("::" if monitored else "localhost"), "the engine listens in its pod only, or for Prometheus")
    require(kinds.count("ScaledObject") + kinds.count("HorizontalPodAutoscaler") <= 1, "one autoscaler")
    require("BITNET_MODEL" in variables, "an overlay names the model")
    require(spec.get("enableServiceLinks") is False, "no variables from Services")
    require(spec.get("automountServiceAccountToken") is False, "no token of the service account")
    sleep = web["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(variables["DRAIN_TIMEOUT"])
    # 8 s is the engine's own --shutdown-timeout.
    needed, grace = sleep + drain + 8, spec["terminationGracePeriodSeconds"]
    require(grace > needed, f"terminationGracePeriodSeconds, {grace}, is longer than the {needed} s that stopping may take")
    for one in (engine, web):
        secure = one["securityContext"]
        require(secure["readOnlyRootFilesystem"] and not secure["allowPrivilegeEscalation"], f"{one['name']} is confined")
        require(secure["capabilities"]["drop"] == ["ALL"], f"{one['name']} has no capabilities")
        require({"cpu", "memory"} <= one["resources"]["limits"].keys(), f"{one['name']} has limits")
    require(spec["securityContext"]["runAsUser"] == 65532 and spec["securityContext"]["runAsNonRoot"], "the user of the images")
    for one in objects.values():
        if one["kind"] == "Service":
            require(one["metadata"]["name"] not in ("bitnet", "engine", "web"), "a Service may not be called what our variables begin with")
        if one["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            found = one["spec"].get("podSelector", one["spec"].get("selector"))
            labels = found.get("matchLabels", found)
            require(labels and labels.items() <= pod["metadata"]["labels"].items(), f"{one['kind']} selects the pod")
    policy = only(objects, "NetworkPolicy")["spec"]
    require(sorted(policy["policyTypes"]) == ["Egress", "Ingress"], "the policy is for both directions")
    page, *others = policy["ingress"]
    require(page == {"ports": [{"protocol": "TCP", "port": 8080}]}, "the page's port is open")
    inside = [rule["ports"] == [{"protocol": "TCP", "port": 11434}] and list(rule["from"][0]) == ["namespaceSelector"] for rule in others]
    require(inside == [True] * monitored, "besides the page's port only the engine's is open, and for one namespace")
    if monitored:
        target = only(objects, "ScaledObject")["spec"]["scaleTargetRef"]["name"]
        require(target == only(objects, "Deployment")["metadata"]["name"], "KEDA scales what is there")
    liveness = engine["livenessProbe"]["exec"]["command"]
    require(liveness[-1] == "--live" and liveness[:-1] == engine["readinessProbe"]["exec"]["command"], "liveness asks for /livez")
    ports = {port["port"] for rule in policy.get("egress") or [] for port in rule["ports"]}
    require(ports == (set() if variables["BITNET_MODEL"] == "demo" else {53, 443}), f"out go names and https, and only for a download: {ports}")


def require(holds, what):
    if not holds:
        raise Refused(f"this does not hold: {what}")
