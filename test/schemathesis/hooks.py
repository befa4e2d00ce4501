"""What schemathesis has to know of this API beyond its contract."""

import itertools
import os

import schemathesis

# What seed.ts has put there.
KNOWN = {"model": "polaris-7b", "alias": "latest"}
KEYS = itertools.count()
TURNS = itertools.count()
# The keys with which the run itself works: it would lock itself out.
OWN_KEYS = set(os.environ.get("SCHEMATHESIS_OWN_KEYS", "").split())


@schemathesis.hook
def filter_case(context, case):
    path = case.path_parameters or {}
    return not ("/api-keys/" in case.path and str(path.get("id")) in OWN_KEYS)


@schemathesis.hook
def map_case(context, case):
    # What is made to be wrong stays so.
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        return case
    query = dict(case.query or {})
    # A cursor is what a list has answered: made up from its pattern it is well formed, and refused all the same.
    query.pop("cursor", None)
    # Whether anything can be in a range, no pattern tells.
    count = str(query.get("parameter_count", ""))
    if ".." in count or count.startswith("<0"):
        del query["parameter_count"]
    # Made-up names all miss: every other request names what is there. Walks along links name what they have made, and look
    # for that; on their way they may also remove what was there.
    walks = case.meta is not None and case.meta.phase.name == "stateful"
    if not walks and next(TURNS) % 2 == 0 and (case.method.upper() == "GET" or "{alias}" in case.path):
        for values in (query, case.path_parameters or {}):
            values.update({name: known for name, known in KNOWN.items() if name in values})
    case.query = query
    headers = case.headers if case.headers is not None else {}
    # Of the pattern of ETags it makes a bare 0 at times.
    for name in ("If-Match", "If-None-Match"):
        if name in headers and '"' not in headers[name] and headers[name] != "*":
            headers[name] = f'"{headers[name]}"'
    # One for each request: schemathesis has the same for many, which is another body under a key that was used.
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = f"schemathesis-{next(KEYS)}"
    return case
