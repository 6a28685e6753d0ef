"""The functions of Azure templates that ours use, on plain values.

Both languages meet here: Bicep's syntax tree and ARM's expressions call the same functions, so two templates that say the same evaluate to
equal values. What only Azure knows becomes a text that names the question: `reference(ID, VERSION).clientId`.
"""

import uuid

from .refusal import Refused

GROUP = "/group"
SUBSCRIPTION = "/subscription"


def resource_id(kind, *names, scope=GROUP):
    """`/SCOPE/providers/NAMESPACE/TYPE/NAME/TYPE/NAME` from `NAMESPACE/TYPE/TYPE` and the names."""
    namespace, *types = kind.split("/")
    if len(types) != len(names):
        raise Refused(f"{kind} needs {len(types)} names, not {len(names)}")
    return "/".join([scope, "providers", namespace, *(part for pair in zip(types, names) for part in pair)])


class Reference(dict):
    """A resource as it will be when deployed. Nothing of it is known, but every property has a name."""

    def __init__(self, identifier, version, path=""):
        super().__init__()
        self.identifier, self.version, self.path = identifier, version, path

    def __missing__(self, name):
        return Reference(self.identifier, self.version, f"{self.path}.{name}")

    def __str__(self):
        return f"reference({self.identifier}, {self.version}){self.path}"


def text(value):
    """A value inside a text, as `format` and `string` write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def concat(*parts):
    if all(isinstance(part, list) for part in parts):
        return [item for part in parts for item in part]
    return "".join(text(part) for part in parts)


def format_text(pattern, *values):
    for index, value in enumerate(values):
        pattern = pattern.replace(f"{{{index}}}", text(value))
    return pattern


def create_object(*pairs):
    return dict(zip(pairs[::2], pairs[1::2]))


FUNCTIONS = {
    "add": lambda left, right: left + right,
    "and": lambda *values: all(values),
    "concat": concat,
    "createarray": lambda *items: list(items),
    "createobject": create_object,
    "equals": lambda left, right: left == right,
    "extensionresourceid": lambda scope, kind, *names: resource_id(kind, *names, scope=scope),
    "format": format_text,
    # Not Azure's own numbers, but also the same for the same parts.
    "guid": lambda *parts: str(uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(parts))),
    "if": lambda condition, yes, no: yes if condition else no,
    "not": lambda value: not value,
    "or": lambda *values: any(values),
    "reference": Reference,
    "resourcegroup": lambda: {"location": "location-of-the-group"},
    "resourceid": resource_id,
    "startswith": lambda whole, start: whole.lower().startswith(start.lower()),
    "string": text,
    "subscriptionresourceid": lambda kind, *names: resource_id(kind, *names, scope=SUBSCRIPTION),
}


def call(name, arguments):
    function = FUNCTIONS.get(name.lower().replace("_", ""))
    if function is None:
        raise Refused(f"the function {name} is not in validators/functions.py")
    return function(*arguments)


def plain(value):
    """A value in which references are texts, so that two of them can be compared."""
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
