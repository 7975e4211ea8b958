"""Answers that Python's jsonschema finds invalid, formats included: reads a list of {schema, text}, writes one of
{place, message}. A pattern that Python's `re` cannot read is no answer's fault: its schema is counted as unread.
"""

import json
import re
import sys

from jsonschema.validators import Draft202012Validator, validator_for

wrong, unread = [], 0
for place, pair in enumerate(json.load(sys.stdin)):
    kind = validator_for(pair["schema"], default=Draft202012Validator)
    validator = kind(pair["schema"], format_checker=kind.FORMAT_CHECKER)
    try:
        errors = [error.message for error in validator.iter_errors(json.loads(pair["text"]))]
    except re.error:
        unread += 1
        continue
    if errors:
        wrong.append({"place": place, "message": errors[0]})
json.dump({"wrong": wrong, "unread": unread}, sys.stdout)
