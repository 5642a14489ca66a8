"""The dashboards as Grafana's JSON: written, compared, checked.

python -m dashboards.build                        write dashboards/*.json
python -m dashboards.build --diff                 exit 1 when a file differs from what would be written
python -m dashboards.build --check URL [--job J]  ask every panel's queries of a Prometheus; exit 1 when one is empty
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from dashboards import check

FOLDER = Path(__file__).parent
POSTGRESQL = "postgresql"
"""The folder below, of what only those can use whose ledger is in PostgreSQL."""
COMMAND = "python -m dashboards.build"
_SDK = "grafana_foundation_sdk"


def generated() -> dict[Path, str]:
    """Each dashboard's file and its text."""
    # Only writing needs the SDK, which is for developers: whoever has installed the package can check without it.
    from dashboards import batch_run, fleet, model_quality, runs  # noqa: PLC0415

    pages = {
        FOLDER / "fleet.json": fleet.page,
        FOLDER / "batch_run.json": batch_run.page,
        FOLDER / "model_quality.json": model_quality.page,
        FOLDER / POSTGRESQL / "runs.json": runs.page,
    }
    return {file: encoded(page().build()) for file, page in pages.items()}


def encoded(dashboard: object) -> str:
    """A dashboard of the SDK as text."""
    from dashboards.sdk import JSONEncoder  # noqa: PLC0415  as above

    plain = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    return json.dumps(_without_menus(plain), indent=2, ensure_ascii=False) + "\n"


def written() -> list[dict[str, Any]]:
    """The dashboards that ask a Prometheus, as they are in the files."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]


def _without_menus(value: Any) -> Any:
    """Without the place that the SDK gives every link and mark: a menu, which Grafana before 12 doesn't have."""
    if isinstance(value, dict):
        return {key: _without_menus(item) for key, item in value.items() if (key, item) != ("placement", "inControlsMenu")}
    return [_without_menus(item) for item in value] if isinstance(value, list) else value


def _write() -> int:
    for file, text in generated().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {file.name}\n")
    return 0


def _diff() -> int:
    texts = generated()
    stale = {file for file, text in texts.items() if not file.exists() or file.read_text(encoding="utf-8") != text}
    unknown = {*FOLDER.glob("*.json"), *(FOLDER / POSTGRESQL).glob("*.json")} - set(texts)
    for file in sorted(stale):
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = unified_diff(old.splitlines(), texts[file].splitlines(), "on disk", "generated", lineterm="")
        sys.stdout.write("\n".join([f"{file.name} is not what the code makes:", *lines, ""]))
    for file in sorted(unknown):
        sys.stdout.write(f"{file.name} is made by nothing: delete it\n")
    if stale:
        sys.stdout.write(f"write them again with: {COMMAND}\n")
    return 1 if stale or unknown else 0


def _check(url: str, jobs: Sequence[str]) -> int:
    try:
        with check.Source(url) as source:
            answers = check.answers(written(), source, jobs)
    except check.CheckFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(check.report(answers))
    return 1 if check.empty_panels(answers) else 0


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code: 0 in order, 1 not, 2 usage."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the dashboards, or check them.")
    parser.add_argument(
        "--diff", action="store_true", help="compare the files with what would be written; exit 1 when one differs"
    )
    parser.add_argument("--check", metavar="URL", help="ask every panel's queries of this Prometheus; exit 1 when one is empty")
    parser.add_argument("--job", action="append", default=[], help="with --check: a job to look at (default: the first)")
    options = parser.parse_args(arguments)
    if options.diff and options.check is not None:
        parser.error("--diff and --check don't go together")
    if options.job and options.check is None:
        parser.error("--job goes with --check URL")
    if options.check is not None:
        return _check(options.check, options.job)
    try:
        return _diff() if options.diff else _write()
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_SDK):
            raise
        sys.stderr.write("making dashboards takes grafana-foundation-sdk: pip install 'batchgauge[dev]'\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
