"""What schemathesis has to know of this API beyond its contract."""

import itertools
import os

import schemathesis

KEYS = itertools.count()
# The keys with which the run itself works: it would lock itself out.
OWN_KEYS = set(os.environ.get("SCHEMATHESIS_OWN_KEYS", "").split())


@schemathesis.hook
def filter_case(context, case):
    path = case.path_parameters or {}
    return not ("/api-keys/" in case.path and str(path.get("id")) in OWN_KEYS)


@schemathesis.hook
def map_case(context, case):
    # A cursor is what a list has answered: made up from its pattern it is well formed, and refused all the same.
    if "cursor" in (case.query or {}) and is_positive(case):
        case.query = {name: value for name, value in case.query.items() if name != "cursor"}
    # Whether anything can be in a range, no pattern tells.
    count = (case.query or {}).get("parameter_count", "")
    if (".." in count or count.startswith("<0")) and is_positive(case):
        case.query = {name: value for name, value in case.query.items() if name != "parameter_count"}
    # Of the pattern of ETags it makes a bare 0 at times.
    for name in ("If-Match", "If-None-Match"):
        value = (case.headers or {}).get(name)
        if value is not None and '"' not in value and value != "*" and is_positive(case):
            case.headers[name] = f'"{value}"'
    # One for each request: schemathesis has the same for many, which is another body under a key that was used.
    if "Idempotency-Key" in (case.headers or {}) and is_positive(case):
        case.headers["Idempotency-Key"] = f"schemathesis-{next(KEYS)}"
    return case


def is_positive(case):
    return case.meta is None or case.meta.generation.mode.is_positive
