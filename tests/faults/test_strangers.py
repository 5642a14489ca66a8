"""What a job file may reach, and that nobody gets a shell."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.paths import any_day, dated
from jobs.spec import load
from pipelines.errors import SpecError
from tests.tiny_job import TinyJob

ROOT = Path(__file__).parents[2]
PRODUCT = ("jobs", "pipelines", "monitoring", "dashboards", "benchmarks")
NIGHT = "2026-11-01"


@pytest.mark.parametrize(
    "template",
    [
        "scored/{date:..}",
        "scored/{date:../../etc}",
        "{date:..}/scored/{date}",
        "scored/{date:.}./x",
        "scored/.{date:./x}",
        "{date:/etc}/{date}",
        "scored/{date:%Y/../../..}/{date}",
    ],
)
@pytest.mark.parametrize("section", ["inbox", "scored", "labelled"])
def test_a_date_leads_to_no_other_folder(tmp_path: Path, section: str, template: str) -> None:
    """Neither up nor to the root: `{date}` is a date in a path, and nothing else."""
    job = TinyJob(tmp_path / "job")
    old = {"inbox": '"inbox/date={date}"', "scored": '"scored/date={date}"', "labelled": '"labelled"'}[section]
    job.edit({old: json.dumps(template)})
    with pytest.raises(SpecError, match="a date must not lead to another folder"):
        load(job.spec)


@pytest.mark.parametrize("text", ["2026-11-01/../..", "../../etc", "/etc", "2026-11-1x", "{date}", "2026-13-01"])
def test_a_date_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """What stands for `{date}` comes from a calendar, never from a text."""
    job = TinyJob(tmp_path / "job")
    command = [sys.executable, "-m", "jobs.cli", "run", str(job.spec), "--date", text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "--date" in done.stderr) == (2, True)
    assert not (job.folder / "scored").exists()


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("scored/date={date}", "scored/date=*"),
        ("scored/{date:%Y/%m/%d}", "scored/*/*/*"),
        ("sco{{red}}[1]/{date}", "sco{red}[[]1]/*"),
        ("scored", "scored"),
    ],
)
def test_any_day_of_a_template(template: str, pattern: str) -> None:
    """As a glob, which takes nothing in the rest of the path for one."""
    dated(template)
    assert any_day(template) == pattern


# A run in a process that notes what Python is asked to open for writing, make, rename or remove.
NOTED = """
import json, os, sys

noted = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)) and arguments[2] & WRITING:
        noted.append(os.fsdecode(arguments[0]))
    elif event in {"os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"} and not isinstance(arguments[0], int):
        noted.append(os.fsdecode(arguments[0]))
    elif event in {"os.rename", "os.link", "os.symlink"}:
        noted.extend(map(os.fsdecode, arguments[:2]))
    elif event in {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}:
        noted.append(f"PROCESS {arguments[0]}")


sys.addaudithook(note)
from jobs.cli import main

sys.argv = ["batchgauge", *sys.argv[2:]]
try:
    main()
finally:
    open(noted_at := os.environ["NOTED"], "w").write(json.dumps([path for path in noted if path != noted_at]))
"""


def test_a_run_writes_where_its_job_file_says_and_beside_the_ledger(tmp_path: Path) -> None:
    """Nowhere else, as Python is told and as the files show; and it starts no process.

    (torch makes an empty folder for its compiler when it is imported, wherever it is told to.)
    """
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, 300)
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "secret.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    variables = {
        **os.environ,
        "BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db"),
        "NOTED": str(tmp_path / "noted.json"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "state" / "torch"),
    }
    command = [sys.executable, "-c", NOTED, "batchgauge", "run", str(job.spec), "--date", NIGHT]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    allowed = (job.folder / "scored", tmp_path / "state")
    noted = json.loads((tmp_path / "noted.json").read_text())
    assert any(path.startswith(str(allowed[0])) for path in noted)
    assert [path for path in noted if not path.startswith((*map(str, allowed), "/dev/null"))] == []
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    new = [path for path in after.keys() - before.keys() if path.name != "noted.json"]
    assert [path for path in new if not any(path.is_relative_to(folder) for folder in allowed)] == []


SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call, with the name that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_no_shell_is_started_anywhere() -> None:
    """Processes are started from lists."""
    files = [path for room in PRODUCT for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    processes = 0
    for path in files:
        for call, name in calls(ast.parse(path.read_text(encoding="utf-8"))):
            assert name not in SHELLS, f"{path}: {name}"
            assert "create_subprocess_shell" not in name, path
            assert not any(keyword.arg == "shell" for keyword in call.keywords), f"{path}: {name}(shell=…)"
            if name in {"subprocess.run", "subprocess.Popen", "subprocess.check_output"}:
                processes += 1
                assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), f"{path}: {name} of a text"
    assert processes > 5, "they are called by another name now: look for that"
