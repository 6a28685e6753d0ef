"""An ARM template and parameters → its resources and outputs, as plain values."""

import re

from .functions import GROUP, call, plain, resource_id
from .refusal import Refused

TOKEN = re.compile(r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[(),.\[\]]))")


class Template:
    """Evaluates one template with one set of parameters."""

    def __init__(self, template, given):
        self.template = template
        declared = template["parameters"]
        unknown = given.keys() - declared.keys()
        missing = {name for name, one in declared.items() if "defaultValue" not in one} - given.keys()
        if unknown or missing:
            raise Refused(f"parameters: unknown {sorted(unknown)}, missing {sorted(missing)}")
        self.given = given
        for name, value in given.items():
            allowed = declared[name].get("allowedValues")
            if allowed and value not in allowed:
                raise Refused(f"parameter {name} may not be {value!r}")

    def parameter(self, name):
        return self.given[name] if name in self.given else self.value(self.template["parameters"][name]["defaultValue"])

    def value(self, node):
        if isinstance(node, dict):
            return {self.value(key): self.value(item) for key, item in node.items()}
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if isinstance(node, str) and node.startswith("[") and not node.startswith("[["):
            return Expression(node[1:-1], self).evaluate()
        return node

    def resources(self):
        """Identifier → resource. Those whose condition is false are left out."""
        found = {}
        for node in self.template["resources"]:
            resource = {key: plain(self.value(item)) for key, item in node.items()}
            if not resource.pop("condition", True):
                continue
            identifier = resource_id(resource["type"], *resource["name"].split("/"), scope=resource.get("scope", GROUP))
            if identifier in found:
                raise Refused(f"{identifier} is there twice")
            resource["dependsOn"] = sorted(resource.get("dependsOn", []))
            found[identifier] = resource
        for identifier, resource in found.items():
            for dependency in resource["dependsOn"]:
                if dependency not in found:
                    raise Refused(f"{identifier} depends on {dependency}, which is not in the template")
        return found

    def outputs(self):
        return {name: plain(self.value(output["value"])) for name, output in self.template.get("outputs", {}).items()}

    def parameters(self):
        """As declared, with default values evaluated."""
        return {
            name: {key: plain(self.value(item)) if key == "defaultValue" else item for key, item in one.items()}
            for name, one in self.template["parameters"].items()
        }


class Expression:
    """`function(arguments).property`, the language inside of `[…]`."""

    def __init__(self, source, template):
        self.source, self.template = source, template
        self.tokens, position = [], 0
        while position < len(source.rstrip()):
            match = TOKEN.match(source, position)
            if not match:
                raise Refused(f"cannot read [{source}] from {source[position:]!r} on")
            self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
            position = match.end()

    def evaluate(self):
        value = self.operand()
        if self.tokens:
            raise Refused(f"[{self.source}] goes on after its end: {self.tokens[0][1]}")
        return value

    def next(self, expected=None):
        kind, token = self.tokens.pop(0) if self.tokens else (None, None)
        if kind is None or expected not in (None, token):
            raise Refused(f"[{self.source}]: {expected or 'more'} expected, {token} found")
        return kind, token

    def operand(self):
        kind, token = self.next()
        if kind == "string":
            return token[1:-1].replace("''", "'")
        if kind == "number":
            return int(token)
        if kind != "name":
            raise Refused(f"[{self.source}]: {token} is no value")
        if (token in ("true", "false")) and self.tokens[:1] != [("mark", "(")]:
            return token == "true"
        value = self.call(token, self.arguments())
        while self.tokens[:1] == [("mark", ".")]:
            self.next(".")
            value = value[self.next()[1]]
        return value

    def arguments(self):
        self.next("(")
        found = []
        while self.tokens[:1] != [("mark", ")")]:
            if found:
                self.next(",")
            found.append(self.operand())
        self.next(")")
        return found

    def call(self, name, arguments):
        if name == "parameters":
            return self.template.parameter(*arguments)
        if name == "variables":
            return self.template.value(self.template.template["variables"][arguments[0]])
        return call(name, arguments)
