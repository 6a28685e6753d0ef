"""Azure's published JSON schemas: what they say of a resource, and a refusal of the keys that they do not know.

A schema without `additionalProperties: false` accepts every misspelt key, and Azure then ignores it in silence. The schemas are not part of
the project; BITNET_AZURE_SCHEMAS names a folder with them (`Microsoft.Web.2024-11-01.json`, …, and the `definitions.json` they refer to).
"""

import json

from jsonschema import Draft4Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT4

from .refusal import Refused

COMMON = "https://schema.management.azure.com/schemas/common/definitions.json"


class Schemas:
    def __init__(self, folder):
        self.documents, self.definitions = {}, {}
        for path in sorted(folder.glob("*.json")):
            document = json.loads(path.read_text())
            identifier = COMMON if path.name == "definitions.json" else document["id"].rstrip("#")
            self.documents[identifier] = document
            for definition in document.get("resourceDefinitions", {}).items():
                types = definition[1]["properties"].get("type", {}).get("enum", [])
                versions = definition[1]["properties"].get("apiVersion", {}).get("enum", [])
                for key in ((kind, version) for kind in types for version in versions):
                    self.definitions[key] = f"{identifier}#/resourceDefinitions/{definition[0]}"
        if COMMON not in self.documents or not self.definitions:
            raise Refused(f"{folder} has no definitions.json or no schema of resources")
        resources = ((uri, DRAFT4.create_resource(document)) for uri, document in self.documents.items())
        self.registry = Registry().with_resources(resources)
        envelope = self.documents[COMMON]["definitions"]
        self.envelope = set(envelope["ARMResourceBase"]["properties"])
        for part in envelope["resourceBase"]["allOf"]:
            self.envelope |= set(part.get("properties", {}))

    def knows(self, resource):
        return (resource["type"], resource["apiVersion"]) in self.definitions

    def check_resource(self, resource):
        # `scope` belongs to templates, not to any resource's own schema.
        self.check(self.definitions[resource["type"], resource["apiVersion"]], resource, self.envelope | {"scope"})

    def check_definition(self, name, value):
        """`value` against the one definition of this name."""
        places = [uri for uri, document in self.documents.items() if name in document.get("definitions", {})]
        if len(places) != 1:
            raise Refused(f"{len(places)} schemas define {name}")
        self.check(f"{places[0]}#/definitions/{name}", value, set())

    def check(self, reference, value, known):
        error = best_match(Draft4Validator({"$ref": reference}, registry=self.registry).iter_errors(value))
        if error:
            raise Refused(f"{error.json_path}: {error.message[:200]}")
        resolved = self.registry.resolver().lookup(reference)
        self.refuse_unknown(resolved.contents, resolved.resolver, value, "$", known)

    def refuse_unknown(self, schema, resolver, value, path, known=frozenset()):
        if isinstance(value, list):
            items = [found for part in self.parts(schema, resolver) if (found := part[0].get("items"))]
            for index, item in enumerate(value):
                for part in items:
                    self.refuse_unknown(part, resolver, item, f"{path}[{index}]")
        if not isinstance(value, dict):
            return
        parts = list(self.parts(schema, resolver))
        named = {}
        for part, where in parts:
            for key, property_schema in part.get("properties", {}).items():
                named.setdefault(key, (property_schema, where))
        is_map = any(part.get("additionalProperties") not in (None, False) for part, _ in parts)
        for key, item in value.items():
            if key in named:
                self.refuse_unknown(named[key][0], named[key][1], item, f"{path}.{key}")
            elif key not in known and not is_map and named:
                raise Refused(f"{path}: the schema does not know the key {key!r}")

    def parts(self, schema, resolver):
        """The schema and all that it refers to, without its alternative `expression`."""
        if "$ref" in schema:
            if schema["$ref"].endswith("/expression"):
                return
            resolved = resolver.lookup(schema["$ref"])
            yield from self.parts(resolved.contents, resolved.resolver)
            return
        yield schema, resolver
        for word in ("oneOf", "anyOf", "allOf"):
            for part in schema.get(word, []):
                yield from self.parts(part, resolver)
