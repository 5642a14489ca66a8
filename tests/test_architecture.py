"""Data goes one way, and so do imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ALLOWED = {
    "jobs": {"jobs", "pipelines", "monitoring"},
    "pipelines": {"pipelines"},
    "monitoring": {"monitoring", "pipelines.report", "pipelines.errors"},
    "dashboards": {"dashboards", "monitoring.names"},
}
FORBIDDEN = {
    "jobs": {"prometheus_client"},
    "pipelines": {"prometheus_client", "apscheduler", "httpx", "sqlalchemy", "os.environ"},
    "monitoring": {"torch", "pandas", "pyarrow", "numpy"},
    "dashboards": {"torch", "pandas", "pyarrow", "httpx", "sqlalchemy"},
}
EXCEPT = {"dashboards/check.py": {"httpx"}}  # the tool that asks a Prometheus what the dashboards would show
TOURS = {"jobs/examples/demo.py": {"dashboards.check", "dashboards.queries"}}  # it shows the whole house
OURS = set(ALLOWED) | {"tests", "benchmarks"}


def imports(file: Path) -> set[str]:
    """Every module a file imports, at its top or later, with what is taken from a package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def files() -> list[Path]:
    return [file for package in ALLOWED for file in sorted((ROOT / package).rglob("*.py"))]


def within(module: str, prefixes: set[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_one_way(file: Path) -> None:
    """jobs → pipelines, monitoring; monitoring → reports and errors; pipelines and dashboards → nothing of the others."""
    package = file.relative_to(ROOT).parts[0]
    allowed = ALLOWED[package] | TOURS.get(str(file.relative_to(ROOT)), set())
    for module in imports(file):
        assert not within(module, OURS) or within(module, allowed), f"{file} imports {module}"
        forbidden = FORBIDDEN[package] - EXCEPT.get(str(file.relative_to(ROOT)), set())
        assert not within(module, forbidden), f"{file} imports {module}"


def test_only_jobs_reads_the_environment() -> None:
    """Scoring and measuring depend on what they are given, never on a variable of the process."""
    for file in files():
        if file.relative_to(ROOT).parts[0] != "jobs" and file.name != "servers.py":
            assert "os.environ" not in file.read_text(), f"{file} reads the environment"


def test_a_metric_name_is_spelled_in_one_place() -> None:
    """Every other module takes names from the metric table."""
    from monitoring.names import SCHEDULER_TABLE, TABLE  # noqa: PLC0415  beside the files under test, not above them

    names = {metric.name for metric in (*TABLE, *SCHEDULER_TABLE)}
    for file in files():
        if file.name == "names.py" or "examples" in file.parts:
            continue
        strings = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        spelled = {text for text in strings if isinstance(text, str) and text in names}
        assert not spelled, f"{file} spells {spelled}"
