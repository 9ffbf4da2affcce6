"""Bodies for the OpenAPI document to show, made of their schemas. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_BY_NAME: Final[Mapping[str, Any]] = {
    "email": "ada@shop.example",
    "host": "ssp.shop.example",
    "name": "Shop",
    "role": "admin",
    "token": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
    "domainId": "dom_3f9c2a41d0e87b65",
    "destinationId": "dst_81b0c6d29e4f7a35",
    "platform": "meta",
    "eventId": "T-2001-Purchase",
    "eventName": "Purchase",
    "orderId": "T-2001",
    "day": "2026-11-25",
    "defaultCountry": "DE",
    "defaultCurrency": "EUR",
    "allowedOrigins": "https://shop.example",
    "excludedAddresses": "203.0.113.0/24",
    "excludedCountries": "DE",
    "accessToken": "EAAB4x9fQ2",
    "access_token": "EAAB4x9fQ2",
    "apiVersion": "v21.0",
    "api_version": "v21.0",
    "testEventCode": "TEST42",
    "test_event_code": "TEST42",
    "type": "facebook",
    "callback_url": "https://shop.example/resync",
}
"""What a field of this name holds."""
_BY_TYPE: Final[Mapping[str, Any]] = {
    "string": "text",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "null": None,
}
_MOMENT: Final = 1_767_225_600_000
_MOMENTS: Final = ("At", "Time", "since", "until", "at")
"""How the names of fields end that hold one."""


class Examples:
    """Makes one of each schema."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        """``schemas`` are those of the document, by name."""
        self._schemas = schemas

    def of(self, schema: Mapping[str, Any], name: str = "") -> Any:
        """What may stand where the schema is asked for, in a field of this name."""
        if "$ref" in schema:
            named = self._schemas[schema["$ref"].rpartition("/")[2]]
            return self.of({**named, **_own(schema)}, name)
        if "anyOf" in schema:
            return self.of(schema["anyOf"][0], name)
        for key in ("examples", "enum"):
            if key in schema:
                known = _BY_NAME.get(name)
                return known if known in schema[key] else schema[key][0]
        if "const" in schema:
            return schema["const"]
        return self._of_type(schema, name)

    def _of_type(self, schema: Mapping[str, Any], name: str) -> Any:
        kind = schema.get("type")
        if kind == "object" or kind is None:
            return {key: self.of(told, key) for key, told in schema.get("properties", {}).items()}
        if kind == "array":
            return [self.of(schema["items"], name)] if "items" in schema else []
        if kind == "string":
            return _BY_NAME.get(name, _BY_TYPE[kind])
        if kind == "integer" and name.endswith(_MOMENTS):
            return _MOMENT
        return schema.get("default", schema.get("minimum", _BY_TYPE[kind]))


def _own(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$ref"}
