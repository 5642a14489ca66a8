"""A torch.export archive that could run code is refused, by each of the ways in which it could."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import archive
from pipelines.errors import ModelError

MODEL = "models/model.json"


class Net(torch.nn.Module):
    """Symbolic shapes, arithmetic on them, a constant and a buffer: much of what a program may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3))
        self.constant = torch.ones(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 4] → [N, 3]."""
        both = torch.cat((x, x))
        result: torch.Tensor = self.layer(both) * self.scale + self.constant
        return result[: both.shape[0] // 2].reshape(-1, 3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An honest archive."""
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    rows = torch.export.Dim("rows", max=100_000)
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(8, 4),), dynamic_shapes=({0: rows},)), path)
    return path.read_bytes()


def rewritten(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with its members changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        root = source.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
    change(members)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, data in members.items():
            file.writestr(f"{root}/{name}", data)
    return target.getvalue()


def program(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The archive with its program changed."""

    def edit(members: dict[str, bytes]) -> None:
        parsed = json.loads(members[MODEL])
        change(parsed)
        members[MODEL] = json.dumps(parsed).encode()

    return rewritten(content, edit)


def unchanged(_content: object) -> None:
    """Nothing."""


def without_program(members: dict[str, bytes]) -> None:
    del members[MODEL]


def pickled(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def first_symbol(parsed: Any) -> Any:
    sizes = (size for tensor in parsed["graph_module"]["graph"]["tensor_values"].values() for size in tensor["sizes"])
    return next(size["as_expr"] for size in sizes if "as_expr" in size)


def test_an_honest_archive_passes_and_loads(exported: bytes) -> None:
    """Also when it was written anew, which shows that what the other tests change is what is refused."""
    archive.check(exported)
    archive.check(program(exported, unchanged))
    module = torch.export.load(io.BytesIO(rewritten(exported, unchanged))).module(check_guards=False)
    assert module(torch.zeros(5, 4)).shape == (5, 3)


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "extra/notes.txt", "data/weights/weight_0"]
)
def test_a_pickle_that_runs_code_is_refused_and_not_run(exported: bytes, tmp_path: Path, member: str) -> None:
    """Wherever it is: pickles are known by what the loader would do with them, and by how they begin."""
    bad = rewritten(exported, lambda members: members.__setitem__(member, pickled(Payload(tmp_path / "ran"))))
    with pytest.raises(ModelError, match=f"{member}.*can't be read as plain weights"):
        archive.check(bad)
    assert not (tmp_path / "ran").exists()


def test_sample_inputs_would_have_run(exported: bytes, tmp_path: Path) -> None:
    """The danger is real: torch.export.load alone runs what is refused here."""
    bad = rewritten(exported, lambda m: m.__setitem__("data/sample_inputs/model.pt", pickled(Payload(tmp_path / "ran"))))
    with pytest.raises(Exception):  # noqa: B017, PT011  what it says afterwards doesn't matter
        torch.export.load(io.BytesIO(bad))
    assert (tmp_path / "ran").exists()


def test_guards_and_expressions_would_have_run(exported: bytes, tmp_path: Path) -> None:
    """The danger is real: text in the program is evaluated too, with no pickle at all."""
    ran = [tmp_path / "guard", tmp_path / "expression"]
    guard = f"not __import__('pathlib').Path({str(ran[0])!r}).mkdir()"
    bad = program(exported, lambda parsed: parsed.__setitem__("guards_code", [guard]))
    torch.export.load(io.BytesIO(bad)).module()(torch.zeros(2, 4))
    symbol = f"__import__('os').mkdir({str(ran[1])!r}) or Symbol('s0')"
    bad = program(exported, lambda parsed: first_symbol(parsed).__setitem__("expr_str", symbol))
    with pytest.raises(Exception):  # noqa: B017, PT011  what it says afterwards doesn't matter
        torch.export.load(io.BytesIO(bad))
    assert all(path.exists() for path in ran)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "S('__import__(\"os\")')",
        "Symbol('s0').__class__",
        "(lambda: 1)()",
        "[x for x in ()]",
        "sympify('1')",
        "Symbol('s0', cls=print)",
        "Symbol('__import__(1)')",
        "Symbol('s0') #\n",
        "Symbol(*'ab')",
        "f'{1}'",
        "_",
        "(" * 500,
    ],
)
def test_an_expression_is_arithmetic_or_refused(exported: bytes, expression: str) -> None:
    """sympify evaluates what it is given, so only symbols, numbers and arithmetic pass."""
    bad = program(exported, lambda parsed: first_symbol(parsed).__setitem__("expr_str", expression))
    with pytest.raises(ModelError, match="as expr_str, which may be code"):
        archive.check(bad)


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "torch.load", "torch.ops.load_library", "_operator.attrgetter", "_operator.call", "math.__loader__",
     "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "#extension:name", "torch.ops.mylib.evil.default"],
)  # fmt: skip
def test_an_operator_is_a_tensor_operator_or_refused(exported: bytes, target: str) -> None:
    """Anything that can be reached from `torch` could be called; only operators on tensors and numbers pass."""
    bad = program(exported, lambda parsed: parsed["graph_module"]["graph"]["nodes"][0].__setitem__("target", target))
    with pytest.raises(ModelError, match="as target, which may be code"):
        archive.check(bad)


@pytest.mark.parametrize("name", ["x=print(1)", 'x"+print(1)+"', "x):\n  print(1)", "x y"])
def test_names_are_names(exported: bytes, name: str) -> None:
    """Names become Python source when the graph is compiled."""

    def rename_argument(parsed: Any) -> None:
        parsed["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [name]

    def rename_key(parsed: Any) -> None:
        parsed["range_constraints"][name] = {"min_val": 0, "max_val": 1}

    for change in (rename_argument, rename_key):
        with pytest.raises(ModelError, match="its program has"):
            archive.check(program(exported, change))


@pytest.mark.parametrize(
    "tree",
    [
        {"type": "collections.defaultdict", "context": "{}", "children_spec": []},
        {"type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "os:x"}]', "children_spec": []},
        {"type": "builtins.dict", "context": '["x=print(1)"]', "children_spec": []},
    ],
)
def test_a_tree_of_arguments_is_plain(exported: bytes, tree: dict[str, Any]) -> None:
    """Enums and default dicts import the module that they name."""

    def plant(parsed: Any) -> None:
        parsed["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, tree])

    with pytest.raises(ModelError, match="as in_spec, which may be code"):
        archive.check(program(exported, plant))


@pytest.mark.parametrize(
    "member", ["data/aotinductor/model/model.so", "data/executorch/x.pte", "models/other.json", "code/x.py"]
)
def test_members_that_could_be_code_are_refused(exported: bytes, member: str) -> None:
    """Compiled libraries, other programs and anything unknown."""
    with pytest.raises(ModelError, match="may be code"):
        archive.check(rewritten(exported, lambda members: members.__setitem__(member, b"x")))


def test_pickled_objects_among_the_constants_are_refused(exported: bytes) -> None:
    """The loader unpickles custom objects with no restriction."""

    def plant(members: dict[str, bytes]) -> None:
        name = "data/constants/model_constants_config.json"
        config = json.loads(members[name])
        config["config"]["evil"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[name] = json.dumps(config).encode()

    with pytest.raises(ModelError, match="'opaque_obj_0' is a pickled object"):
        archive.check(rewritten(exported, plant))


def test_an_ambiguous_or_damaged_archive_is_refused(exported: bytes) -> None:
    """Two readers that disagree on what is inside could be shown two different files."""
    buffer = io.BytesIO(exported)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("version", "8.0")
    with pytest.raises(ModelError, match=r"ambiguous|damaged"):
        archive.check(buffer.getvalue())
    buffer = io.BytesIO(exported)
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(f"{file.namelist()[0].partition('/')[0]}/{MODEL}", "{}")
    with pytest.raises(ModelError, match="ambiguous"):
        archive.check(buffer.getvalue())
    for content in (b"", b"junk", exported[:-100], rewritten(exported, without_program)):
        with pytest.raises(ModelError, match=r"isn't a torch\.export archive|has no"):
            archive.check(content)
    with pytest.raises(ModelError, match="is malformed"):
        archive.check(rewritten(exported, lambda members: members.__setitem__(MODEL, b"{")))
