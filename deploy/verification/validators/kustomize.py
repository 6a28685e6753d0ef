"""A kustomization → its objects: resources, components, strategic merge patches and image tags, which is all that ours use.

kustomize itself comes from no registry that is reachable everywhere, so this stands in for it. Where `kubectl` or `kustomize` is installed,
`kubernetes` compares the two.
"""

import yaml

from .refusal import Refused

# By what the items of a list are told apart when it is merged. Lists that are not here are replaced.
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}


def documents(path):
    try:
        return [document for document in yaml.safe_load_all(path.read_text()) if document]
    except yaml.YAMLError as error:
        raise Refused(f"{path.name} is no YAML: {error}") from error


def identity(one):
    return one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]


def merge(base, patch):
    """`patch` over `base`; null removes."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(merged.get(key) or {}, value)
        elif isinstance(value, list) and key in MERGE_KEYS:
            merged[key] = merge_list(merged.get(key, []), value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def merge_list(base, patch, key):
    patches = {item[key]: item for item in patch}
    merged = [merge(item, patches.pop(item[key], {})) for item in base]
    return merged + [item for item in patch if item[key] in patches]


def build(folder):
    """Identity → object."""
    found = {}
    add(folder, "Kustomization", found)
    return found


def add(folder, kind, found):
    """What a kustomization adds to `found` and changes in it."""
    file = folder / "kustomization.yaml"
    if not file.is_file():
        raise Refused(f"{folder} has no kustomization.yaml")
    (kustomization,) = documents(file)
    unknown = kustomization.keys() - {"apiVersion", "kind", "resources", "components", "patches", "images"}
    if unknown or kustomization["kind"] != kind:
        raise Refused(f"{file}: {kustomization['kind']} with {sorted(unknown)} is not understood here")
    for resource in kustomization["resources"]:
        path = folder / resource
        added = build(path) if path.is_dir() else {identity(one): one for one in documents(path)}
        if twice := found.keys() & added.keys():
            raise Refused(f"{resource}: {twice} is there twice")
        found |= added
    # Unlike a resource, a component sees what is there already.
    for component in kustomization.get("components", []):
        add(folder / component, "Component", found)
    for patch in kustomization.get("patches", []):
        (change,) = documents(folder / patch["path"])
        target = identity(change)
        if target not in found:
            raise Refused(f"{patch['path']} patches {target}, which is not there")
        if change.pop("$patch", None) == "delete":
            del found[target]
        else:
            found[target] = merge(found[target], change)
    for image in kustomization.get("images", []):
        tag_images(list(found.values()), image)


def tag_images(node, image):
    """New names and tags for this image, wherever it is."""
    if isinstance(node, list):
        for item in node:
            tag_images(item, image)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "image" and str(value).rpartition(":")[0] == image["name"]:
                node[key] = f"{image.get('newName', image['name'])}:{image['newTag']}"
            else:
                tag_images(value, image)
