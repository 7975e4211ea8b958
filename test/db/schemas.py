"""Answers that Python's jsonschema finds invalid, formats included: reads a list of {schema, text}, writes one of
{place, message}. OpenAPI's `nullable` is a type more. A pattern that Python's `re` cannot read is no answer's fault: its schema is counted as unread.
"""

import json
import re
import sys

from jsonschema.validators import Draft202012Validator, validator_for



def plain(schema):
    """The schema without `nullable`, which jsonschema does not know."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("nullable") is True and isinstance(schema.get("type"), str):
        schema = {**schema, "type": [schema["type"], "null"]}
    return {key: plain(value) for key, value in schema.items()}


wrong, unread = [], 0
for place, pair in enumerate(json.load(sys.stdin)):
    schema = plain(pair["schema"])
    kind = validator_for(schema, default=Draft202012Validator)
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
    try:
        errors = [error.message for error in validator.iter_errors(json.loads(pair["text"]))]
    except re.error:
        unread += 1
        continue
    if errors:
        wrong.append({"place": place, "message": errors[0]})
json.dump({"wrong": wrong, "unread": unread}, sys.stdout)
