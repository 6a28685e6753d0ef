"""A Bicep file and parameters → its resources and outputs, as plain values and in the shape that `arm` gives.

pycep-parser reads the file. It has two gaps, and main.bicep keeps out of both: a text and a symbol of the same name look alike in its tree,
which is refused here, and it reads `a && b ? c : d` as `a && (b ? c : d)`, so such an expression needs a variable of its own.
"""

import re

import tree_sitter
import tree_sitter_bicep
from pycep import BicepParser

from .functions import GROUP, Reference, call, plain, resource_id, text
from .refusal import Refused

INTERPOLATION = re.compile(r"\$\{([^}]*)\}")
SYMBOLS = ("parameters", "variables", "resources")


def refuse_syntax_errors(source):
    """By a grammar that has nothing to do with pycep-parser's, since Bicep's own compiler is in no registry that we reach."""
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language())).parse(source.encode())
    nodes = [tree.root_node]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            raise Refused(f"line {node.start_point.row + 1}: {source.encode()[node.start_byte : node.end_byte].decode()[:80]!r} is no Bicep")
        nodes += node.children


class Resource:
    """A resource of this file as other parts of the file see it."""

    def __init__(self, identifier, version):
        self.identifier, self.version = identifier, version

    def __getitem__(self, name):
        if name == "id":
            return self.identifier
        if name == "properties":
            return Reference(self.identifier, self.version)
        raise Refused(f"the property {name} of a resource is not known here")


class Template:
    """Evaluates one file with one set of parameters."""

    def __init__(self, source, given):
        try:
            self.tree = BicepParser().parse(text=source)
        except Exception as error:  # noqa: BLE001: lark's errors have no class in common
            raise Refused(f"pycep-parser cannot read it: {str(error).strip()[:300]}") from error
        self.given, self.used = given, set()
        names = [name for kind in SYMBOLS for name in self.tree[kind]]
        for name in names:
            if names.count(name) > 1 or re.search(rf"'{name}'", source):
                raise Refused(f"{name} is a symbol and something else too: the parser cannot tell them apart")

    def symbol(self, name):
        if name in self.given:
            return self.given[name]
        if name in self.tree["parameters"]:
            return self.value(self.tree["parameters"][name]["default"])
        if name in self.tree["variables"]:
            return self.value(self.tree["variables"][name]["value"])
        resource = self.tree["resources"][name]
        identifier = self.identifier(resource)
        if not resource["existing"]:
            self.used.add(identifier)
        return Resource(identifier, resource["api_version"])

    def value(self, node):
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if isinstance(node, dict):
            if node.keys() == {"function"}:
                return self.call(node["function"])
            if node.keys() == {"operator"}:
                return self.operate(node["operator"])
            return {self.key(key): self.value(item) for key, item in node.items()}
        if isinstance(node, str):
            if any(node in self.tree[kind] for kind in SYMBOLS):
                return self.symbol(node)
            return self.interpolate(node)
        return node

    def key(self, key):
        return self.interpolate(key[1:-1]) if key.startswith("'") else key

    def interpolate(self, literal):
        def insert(match):
            first, *path = match[1].split(".")
            value = self.symbol(first)
            for name in path:
                value = value[name]
            return text(value)

        return INTERPOLATION.sub(insert, literal)

    def call(self, function):
        arguments = [self.value(node) for node in function.get("parameters", {}).values() if node is not None]
        value = call(function["type"], arguments)
        return value[function["property_name"]] if "property_name" in function else value

    def operate(self, operator):
        kind, operands = operator["type"], operator["operands"]
        if kind == "property_accessor":
            value = self.value(operands["operand_1"])
            path = operands["operand_2"]
            while isinstance(path, dict):
                value = value[path["operator"]["operands"]["operand_1"]]
                path = path["operator"]["operands"]["operand_2"]
            return value[path]
        name = {"conditional": "if"}.get(kind, kind)
        return call(name, [self.value(node) for node in operands.values()])

    def name(self, config):
        """With the names of its parents, as ARM writes it."""
        own = self.interpolate(config["name"]) if self.is_literal(config["name"]) else plain(self.value(config["name"]))
        if "parent" not in config:
            return own
        return f"{self.name(content(self.tree['resources'][config['parent']])[0])}/{own}"

    def is_literal(self, node):
        return isinstance(node, str) and not any(node in self.tree[kind] for kind in SYMBOLS)

    def identifier(self, resource):
        config, _ = content(resource)
        scope = self.identifier(self.tree["resources"][config["scope"]]) if "scope" in config else GROUP
        return resource_id(resource["type"], *self.name(config).split("/"), scope=scope)

    def resources(self):
        found = {}
        for resource in self.tree["resources"].values():
            config, condition = content(resource)
            if resource["existing"] or not self.value(condition):
                continue
            self.used = set()
            # What it names, it depends on; so does the compiler see it.
            for name in [*config.get("dependsOn", []), config.get("parent"), config.get("scope")]:
                if name:
                    self.symbol(name)
            one = {"type": resource["type"], "apiVersion": resource["api_version"], "name": self.name(config)}
            if "scope" in config:
                one["scope"] = self.identifier(self.tree["resources"][config["scope"]])
            for key, node in config.items():
                if key not in ("name", "parent", "scope", "dependsOn"):
                    one[key] = plain(self.value(node))
            one["dependsOn"] = sorted(self.used)
            found[self.identifier(resource)] = one
        return found

    def outputs(self):
        return {name: plain(self.value(output["value"])) for name, output in self.tree["outputs"].items()}

    def parameters(self):
        """As ARM declares them."""
        found = {}
        for name, parameter in self.tree["parameters"].items():
            one = {"type": parameter["type"]}
            if parameter.get("default") is not None:
                one["defaultValue"] = plain(self.value(parameter["default"]))
            for decorator in parameter["decorators"]:
                kind, argument = decorator["type"], decorator.get("argument")
                if kind == "description":
                    one["metadata"] = {"description": argument}
                else:
                    one[{"allowed": "allowedValues", "min_value": "minValue", "max_value": "maxValue"}[kind]] = argument
            found[name] = one
        return found


def content(resource):
    """What stands between a resource's braces, and its condition."""
    config = resource["config"]
    return (config["config"], config["condition"]) if "condition" in config else (config, True)
