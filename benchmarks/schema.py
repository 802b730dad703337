"""``python -m benchmarks.schema``: print the JSON schema of report.json.

It is kept as docs/report.schema.json.
"""

from __future__ import annotations

import inspect
import sys

import msgspec

from benchmarks.results import Results


def schema() -> bytes:
    """Indented JSON; descriptions are the docstrings of ``benchmarks.results``."""
    found = msgspec.json.schema(Results)
    for entry in found["$defs"].values():  # Python 3.13 removes their indentation itself
        entry["description"] = inspect.cleandoc(entry.get("description", ""))
        for property in entry.get("properties", {}).values():
            if property.get("default") == {}:  # told by msgspec from 0.23 on
                del property["default"]
    return msgspec.json.format(msgspec.json.encode(found)) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(schema())
