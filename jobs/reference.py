"""Writes the generated parts of the README: `python -m jobs.reference [--check]`.

The job-file reference comes from the settings' own descriptions, the metric reference from the metric table, the
alerts' from their rules, and the environment's from `jobs.environment`: what is generated can't go stale unseen.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from jobs.environment import PREFIX, VARIABLES
from jobs.spec import JobSpec
from monitoring.metrics_reference import markdown as metrics_markdown

README = Path(__file__).parent.parent / "README.md"
ALERTS = README.parent / "monitoring" / "prometheus" / "rules" / "alerts.yml"
SECTIONS = ("job", "model", "input", "output", "batch", "engine", "holdout", "thresholds", "retrain", "push")


def job_file_markdown() -> str:
    """The job file's keys: a table for each section."""
    schema = JobSpec.model_json_schema()
    return "\n".join(_section(name, schema) for name in SECTIONS)


def environment_markdown() -> str:
    """The environment variables."""
    rows = [f"| `{PREFIX}{name}` | {_cell(text)} |" for name, text in VARIABLES.items()]
    return "\n".join(["| variable | meaning |", "|---|---|", *rows, ""])


def alerts_markdown() -> str:
    """The alerts, each with its severity, its summary, and its entry in the runbook."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rows = [_alert(rule) for group in groups for rule in group["rules"]]
    return "\n".join(["| alert | severity | says |", "|---|---|---|", *rows, ""])


def _alert(rule: Mapping[str, Any]) -> str:
    says = re.sub(
        r"\{\{ \$(?:labels\.)?(\w+) \}\}", r"*\1*", rule["annotations"]["summary"].removeprefix("{{ $labels.job }}: ")
    )
    return f"| [{rule['alert']}]({rule['annotations']['runbook_url']}) | {rule['labels']['severity']} | {_cell(says)} |"


def _section(name: str, schema: Mapping[str, Any]) -> str:
    entry = schema["properties"][name]
    repeated = entry.get("type") == "array"
    section = _resolve(entry["items"] if repeated else entry, schema)
    heading = f"[[{name}]]" if repeated else f"[{name}]"
    lines = [
        f"#### `{heading}`",
        "",
        section["description"],
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for key, field in section["properties"].items():
        default = "required" if key in section.get("required", ()) else _default(field)
        lines.append(f"| `{key}` | {_cell(_type(field, schema))} | {_cell(default)} | {_cell(field.get('description', ''))} |")
    return "\n".join([*lines, ""])


def _resolve(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition that a field refers to, wherever pydantic has put the reference."""
    candidates = [field, *field.get("anyOf", ()), *field.get("allOf", ())]
    reference = next((item["$ref"] for item in candidates if "$ref" in item), None)
    found: Mapping[str, Any] = schema["$defs"][reference.rsplit("/", 1)[-1]] if reference else field
    return found


def _type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kinds = [_type(item, schema) for item in field["anyOf"] if item.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in field:
        return f"`{{ {', '.join(_resolve(field, schema)['properties'])} }}`"
    if "const" in field or "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_type(field['items'], schema)}" if "items" in field else "list"
    return "duration" if "examples" in field else _PLAIN.get(field.get("type", ""), "any")


_PLAIN = {"string": "text", "object": "table of texts", "boolean": "true or false", "integer": "integer", "number": "number"}


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value is None or value in ([], {}):
        return "–"
    return f"`{_duration(value)}`" if "examples" in field else f"`{json.dumps(value)}`"


def _duration(seconds: float) -> str:
    """As a job file would say it."""
    units = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
    name, size = next((name, size) for name, size in units if seconds % size == 0)
    return f'"{seconds / size:g}{name}"'


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


GENERATED: dict[str, Callable[[], str]] = {
    "job file": job_file_markdown,
    "environment": environment_markdown,
    "metrics": metrics_markdown,
    "alerts": alerts_markdown,
}


def regenerate(text: str) -> str:
    """The README with its generated parts made anew. Raises `ValueError` when a part's markers are missing."""
    for name, make in GENERATED.items():
        text = _replace(text, name, make())
    return text


def _replace(text: str, name: str, generated: str) -> str:
    pattern = re.compile(rf"(<!-- {name}: generated by make docs -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README: no markers for the generated part {name!r}")
    return pattern.sub(lambda match: f"{match[1]}\n{generated}\n{match[2]}", text)


def main(arguments: list[str]) -> int:
    """Write the README, or with --check say whether it is up to date."""
    before = README.read_text(encoding="utf-8")
    after = regenerate(before)
    if arguments == ["--check"]:
        return 0 if before == after else 1
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
