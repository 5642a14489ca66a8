"""The Pushgateway's grouping key: the labels that name a group, and its URL path.

Protocol: https://github.com/prometheus/pushgateway/blob/master/README.md (URL, base64 encoding).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from monitoring.names import LABEL_NAME
from pipelines.errors import PushError

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def path(group: Mapping[str, str]) -> str:
    """The group's path below the gateway's URL, `/metrics/job/…`; `job` comes first.

    A value that isn't plain (empty, a `/`, `..`, not ASCII) takes the base64 form. Raises a permanent `PushError`
    for a group without a job, or a label name that isn't one.
    """
    if not group.get("job"):
        raise PushError(f"group {dict(group)}: it needs a job name that is not empty", permanent=True)
    segments = ["/metrics"]
    for name in ("job", *(label for label in group if label != "job")):
        if not LABEL_NAME.fullmatch(name):
            raise PushError(f"group label {name!r} is not a label name; use letters, digits and _", permanent=True)
        segments.append(_segment(name, group[name]))
    return "/".join(segments)


def _segment(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return f"{name}/{value}"
    encoded = urlsafe_b64encode(value.encode(errors="replace")).decode()
    return f"{name}@base64/{encoded or '='}"
