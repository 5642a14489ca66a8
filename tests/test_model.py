"""Loading a model without running code from its file, and calling it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch._dynamo.utils import counters

from pipelines.compiling import compiled_is_faster
from pipelines.devices import Inputs
from pipelines.errors import ModelError, SpecError
from pipelines.model import Model, _autocast, load
from pipelines.settings import ModelSettings
from pipelines.tuning import kernel_threads

FACTORY = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x.view(-1).view(-1, 4))

class Scribbling(Viewed):
    def forward(self, x):
        x.mul_(2)
        return super().forward(x)

class Prior(Viewed):
    def forward(self, x):
        return self.layer.bias.expand(len(x), 3)

class Sparse(Viewed):
    def forward(self, x):
        return self.layer(x).to_sparse()

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x))

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, *, left, right):
        return self.layer(left + right)

class Pair(Named):
    def forward(self, x):
        return self.layer(x), x

def lazy():
    return nn.Sequential(nn.LazyLinear(3))

def fails():
    raise ValueError("no such architecture")

def number():
    return 3
"""

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def net() -> torch.nn.Sequential:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(FACTORY)
    save_file(net().state_dict(), tmp_path / "net.safetensors")
    torch.save(net().state_dict(), tmp_path / "net.pt")
    return tmp_path


def loaded(folder: Path, **changes: Any) -> Model:
    """The model that the changes describe; factory and weights unless they name a path."""
    given = {"task": "multiclass", "device": "cpu", **changes}
    if "path" not in given:
        given = {"factory": "net.py:build", "weights": "net.safetensors", **given}
    given |= {key: str(folder / given[key]) for key in ("weights", "path") if key in given}
    return load(ModelSettings(**given), folder)


def forward(model: Model, inputs: Inputs) -> torch.Tensor:
    return model.collect(model.submit(inputs)).output


def expected(x: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        return net()(x)  # type: ignore[no-any-return]  # modules are called untyped


def export(folder: Path, *, dynamic: bool = True) -> None:
    shapes = ({0: torch.export.Dim("rows", max=1_000_000)},) if dynamic else None
    torch.export.save(torch.export.export(net(), (X,), dynamic_shapes=shapes), folder / "net.pt2")


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(("weights", "format_"), [("net.safetensors", "safetensors"), ("net.pt", "state_dict")])
def test_a_factory_with_weights_is_the_model(folder: Path, weights: str, format_: str) -> None:
    """It gives what plain torch gives, in eval mode, and says what it is."""
    model = loaded(folder, weights=weights, version="7")
    torch.testing.assert_close(forward(model, (X,)), expected(), rtol=0, atol=0)
    digest = hashlib.sha256((folder / weights).read_bytes()).hexdigest()
    assert (model.report.format, model.report.sha256, model.report.version) == (format_, digest, "7")
    assert (model.report.device, model.report.parameters) == ("cpu", 4 * 8 + 8 + 8 * 3 + 3)
    assert model.fingerprint == digest


@pytest.mark.parametrize("form", ["factory", "pt2"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_is_torchs_autocast(folder: Path, precision: str, form: str) -> None:
    """Exactly what plain torch gives under autocast; the report says it."""
    export(folder)
    given = {"path": "net.pt2"} if form == "pt2" else {}
    model = loaded(folder, precision=precision, **given)
    dtype = getattr(torch, precision)
    with torch.autocast("cpu", dtype=dtype):
        wanted = expected()
    found = forward(model, (X,))
    assert (found.dtype, model.report.precision) == (dtype, precision)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.equal(found.float(), expected())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_precision_that_the_device_does_not_have_is_refused(precision: str) -> None:
    """Before anything is scored."""
    with pytest.raises(ModelError, match=rf"model\.precision is '{precision}', which meta can't do: .*; use 'float32'"):
        _autocast(torch.device("meta"), precision)


def test_an_exported_program_is_the_model(folder: Path) -> None:
    """Any number of rows, one included, where its batch dimension is dynamic."""
    export(folder)
    model = loaded(folder, path="net.pt2")
    for rows in (1, 2, 6):
        torch.testing.assert_close(forward(model, (X[:rows],)), expected(X[:rows]))
    assert (model.report.format, model.report.parameters) == ("pt2", 67)


def test_a_program_that_normalises_by_the_batch_alone_is_as_it_must_be(folder: Path) -> None:
    """It has no statistics of training, so it is not in training mode; `eval()` would change nothing."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4, track_running_stats=False)).eval()
    torch.export.save(torch.export.export(net, (X,)), folder / "batch.pt2")
    torch.testing.assert_close(forward(loaded(folder, path="batch.pt2"), (X,)), net(X).detach())


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4)])
def test_a_program_that_was_exported_in_training_is_refused(folder: Path, layer: torch.nn.Module) -> None:
    """It would say something else each time, and nothing can make it stop; the same one exported for inference is fine."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), layer)
    rows = {0: torch.export.Dim("rows", min=2, max=1_000)}
    for training in (True, False):
        program = torch.export.export(net.train(training), (X,), dynamic_shapes=(rows,))
        torch.export.save(program, folder / f"{training}.pt2")
    with pytest.raises(ModelError, match=r"True\.pt2: was exported in training mode.*: call model\.eval\(\) first"):
        loaded(folder, path="True.pt2")
    model = loaded(folder, path="False.pt2")
    torch.testing.assert_close(forward(model, (X,)), forward(model, (X,)))


def test_a_program_for_one_batch_size_says_so(folder: Path) -> None:
    """A batch dimension that was not exported as dynamic is the usual mistake."""
    export(folder, dynamic=False)
    with pytest.raises(ModelError, match=r"float32 \[3, 4\].*needs a dynamic batch dimension"):
        forward(loaded(folder, path="net.pt2"), (X[:3],))


@pytest.mark.parametrize("form", ["factory", "pt2"])
def test_a_wrong_input_width_says_the_shapes_given(folder: Path, form: str) -> None:
    """The model's own words and what it was given are in the message."""
    export(folder)
    model = loaded(folder) if form == "factory" else loaded(folder, path="net.pt2")
    with pytest.raises(ModelError, match=r"the model failed on inputs torch\.float32 \[6, 5\]: RuntimeError"):
        forward(model, (torch.zeros(6, 5),))


def test_transposed_inputs_work_in_models_that_use_view(folder: Path) -> None:
    """Scalar columns come as a transposed block; a model that can't take it gets a copy, from then on."""
    layer = torch.nn.Linear(4, 3)
    save_file({"layer.weight": layer.weight.detach(), "layer.bias": layer.bias.detach()}, folder / "viewed.safetensors")
    model = loaded(folder, factory="net.py:Viewed", weights="viewed.safetensors")
    for _ in range(2):
        torch.testing.assert_close(forward(model, (X.T.contiguous().T,)), layer(X), check_stride=False)
    assert model._module.calls == 3


def test_a_second_try_has_inputs_that_nobody_has_written_to(folder: Path) -> None:
    """What a model does to them before it refuses their layout is not done twice."""
    layer = torch.nn.Linear(4, 3)
    save_file({"layer.weight": layer.weight.detach(), "layer.bias": layer.bias.detach()}, folder / "viewed.safetensors")
    model = loaded(folder, factory="net.py:Scribbling", weights="viewed.safetensors")
    for _ in range(2):
        torch.testing.assert_close(forward(model, (X.T.contiguous().T,)), layer(2 * X), check_stride=False)


def test_an_output_may_be_a_view_of_a_parameter_but_not_sparse(folder: Path) -> None:
    """It wants no gradients from then on."""
    layer = torch.nn.Linear(4, 3)
    save_file({"layer.weight": layer.weight.detach(), "layer.bias": layer.bias.detach()}, folder / "viewed.safetensors")
    output = forward(loaded(folder, factory="net.py:Prior", weights="viewed.safetensors"), (X,))
    assert not output.requires_grad
    torch.testing.assert_close(output, layer.bias.detach().expand(6, 3))
    with pytest.raises(ModelError, match=r"layout torch\.sparse_coo: it must return a dense one; use to_dense\(\)"):
        forward(loaded(folder, factory="net.py:Sparse", weights="viewed.safetensors"), (X,))


def test_a_dict_names_the_models_arguments(folder: Path) -> None:
    """Tensors in a dict are given by name."""
    layer = torch.nn.Linear(4, 3)
    save_file({"layer.weight": layer.weight.detach(), "layer.bias": layer.bias.detach()}, folder / "named.safetensors")
    model = loaded(folder, factory="net.py:Named", weights="named.safetensors")
    torch.testing.assert_close(forward(model, {"left": X, "right": X}), layer(2 * X))
    with pytest.raises(ModelError, match=r"failed on inputs left torch\.float32 \[6, 4\]: TypeError"):
        forward(model, {"left": X})
    with pytest.raises(ModelError, match="returned a tuple: it must return one tensor"):
        forward(loaded(folder, factory="net.py:Pair", weights="named.safetensors"), (X,))


def test_tied_weights_may_be_stored_once(folder: Path) -> None:
    """`safetensors.torch.save_model` keeps one of two names for the same tensor."""
    from pipelines.entrypoint import load as entrypoint  # noqa: PLC0415  the file's own class makes the weights

    tied = entrypoint("net.py:Tied", folder)()
    save_model(tied, str(folder / "tied.safetensors"))
    torch.testing.assert_close(forward(loaded(folder, factory="net.py:Tied", weights="tied.safetensors"), (X,)), tied(X))


def test_a_lazy_module_takes_its_shape_from_the_weights(folder: Path) -> None:
    """Its parameters have no shape of their own; missing ones are still named."""
    layer = torch.nn.Linear(4, 3)
    save_file({"0.weight": layer.weight.detach(), "0.bias": layer.bias.detach()}, folder / "lazy.safetensors")
    model = loaded(folder, factory="net.py:lazy", weights="lazy.safetensors")
    torch.testing.assert_close(forward(model, (X,)), layer(X).detach())
    save_file({"0.weight": layer.weight.detach()}, folder / "lazy.safetensors")
    with pytest.raises(ModelError, match=r"they lack 0\.bias"):
        loaded(folder, factory="net.py:lazy", weights="lazy.safetensors")


def test_the_pin_is_checked_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    """A file that isn't the pinned one is refused, in any letter case; the right one loads."""
    digest = hashlib.sha256((folder / "net.safetensors").read_bytes()).hexdigest()
    assert loaded(folder, sha256=digest.upper()).report.sha256 == digest
    torch.save(Payload(tmp_path / "ran"), folder / "evil.pt")
    with pytest.raises(ModelError, match=r"evil\.pt: its SHA-256 is [0-9a-f]{64}, but model.sha256 pins 0{64}"):
        loaded(folder, path="evil.pt", sha256="0" * 64, trust="code")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["evil.pt", "evil.pt2"])
def test_a_pickle_that_runs_code_does_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    """As weights or as a path, a hostile pickle is refused with a way out, and what it would do isn't done."""
    torch.save({"0.weight": Payload(tmp_path / "ran")}, folder / name)
    with pytest.raises(ModelError, match=r"may run code on load: convert it|isn't a torch\.export archive"):
        loaded(folder, path=name)
    if name == "evil.pt":
        with pytest.raises(ModelError, match=r"can't be read as plain weights.*: convert it with safetensors"):
            loaded(folder, weights=name)
    assert not (tmp_path / "ran").exists()


def test_trust_in_code_loads_a_pickled_module(folder: Path) -> None:
    """Only then."""
    torch.save(net(), folder / "module.pt")
    with pytest.raises(ModelError, match=r"module\.pt: a pickled module or TorchScript may run code.*trust = 'code'"):
        loaded(folder, path="module.pt")
    model = loaded(folder, path="module.pt", trust="code")
    torch.testing.assert_close(forward(model, (X,)), expected())
    assert model.report.format == "pickle"
    with pytest.raises(ModelError, match="holds a OrderedDict, not a module"):
        loaded(folder, path="net.pt", trust="code")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("trust", ["weights", "code"])
def test_torchscript_is_refused_with_the_way_to_convert_it(folder: Path, trust: str) -> None:
    """torch has deprecated it, so it isn't loaded even when trusted."""
    torch.jit.save(torch.jit.trace(net(), X), folder / "script.pt")  # type: ignore[no-untyped-call]  # deprecated, untyped
    with pytest.raises(ModelError, match=r"script\.pt: .*TorchScript.*torch\.export\.save"):
        loaded(folder, path="script.pt", trust=trust)
    with pytest.raises(ModelError, match=r"is TorchScript.*convert it with safetensors"):
        loaded(folder, weights="script.pt", trust=trust)


def test_weights_that_do_not_fit_the_factory_are_named(folder: Path) -> None:
    """Missing, unknown and misshapen tensors, the first few of each."""
    state = dict(net().state_dict())
    state["3.weight"] = torch.zeros(5, 8)
    state["head.weight"] = state.pop("0.bias")
    save_file(state, folder / "other.safetensors")
    message = (
        r"they lack 0\.bias; they have unknown head\.weight; they have in another shape 3\.weight \[5, 8\] instead of \[3, 8\]"
    )
    with pytest.raises(ModelError, match=message):
        loaded(folder, weights="other.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, "holds a dict with 'epoch', 'state_dict', not a state dict"),
        ([torch.zeros(1)], "holds a list, not a state dict"),
        ({}, "holds a dict with , not a state dict|not a state dict"),
    ],
)
def test_a_checkpoint_is_not_a_state_dict(folder: Path, content: object, message: str) -> None:
    """What is in it is said, and what to save instead."""
    torch.save(content, folder / "checkpoint.pt")
    with pytest.raises(ModelError, match=message):
        loaded(folder, weights="checkpoint.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "absent.safetensors"}, r"absent\.safetensors: can't be read: No such file"),
        ({"weights": "junk.safetensors"}, r"junk\.safetensors: isn't a safetensors file"),
        ({"weights": "junk.pt"}, r"junk\.pt: can't be read as plain weights"),
        ({"weights": "junk.bin"}, "must be .safetensors, .pt or .pth"),
        ({"path": "junk.pt2"}, "isn't a torch.export archive"),
        ({"path": "junk.pt2", "trust": "code"}, "can't be loaded by torch"),
        ({"path": "junk.pt", "trust": "code"}, "can't be unpickled"),
        ({"path": "junk.onnx"}, r"must be a torch.export program \(\.pt2\)"),
        ({"path": "."}, "Is a directory"),
        ({"factory": "net.py:fails"}, "factory 'net.py:fails' failed: ValueError: no such architecture"),
        ({"factory": "net.py:number"}, "returned a int, not a torch.nn.Module"),
        ({"device": "cuda:7"}, "model.device is 'cuda:7', but this machine has . cuda devices"),
    ],
)
def test_what_cannot_be_loaded_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    """One error with the file's name, whatever is wrong with it."""
    for name in ("junk.safetensors", "junk.pt", "junk.bin", "junk.pt2", "junk.onnx"):
        (folder / name).write_bytes(b"junk" * 50)
    with pytest.raises(ModelError, match=message):
        loaded(folder, **changes)


def test_a_missing_factory_is_the_job_files_fault(folder: Path) -> None:
    """An entrypoint that isn't there is a SpecError."""
    with pytest.raises(SpecError, match="has no 'bild'; did you mean 'build'"):
        loaded(folder, factory="net.py:bild")


def test_auto_takes_what_is_there(folder: Path) -> None:
    """`auto` always finds a device, and the model works on it."""
    model = loaded(folder, device="auto")
    torch.testing.assert_close(forward(model, (X,)), expected(), rtol=1e-4, atol=1e-5)
    assert forward(model, (X,)).device.type == "cpu"


@pytest.mark.parametrize(("seconds", "faster"), [(0.5, True), (0.94, True), (0.96, False), (2.0, False)])
def test_compiled_is_used_where_it_is_clearly_faster(seconds: float, *, faster: bool) -> None:
    """The best of a few tries each, in turns; the first, which compiles, doesn't count."""
    now, calls = 0.0, list[bool]()

    def infer(compiled: bool) -> None:  # noqa: FBT001  as it is called
        nonlocal now
        calls.append(compiled)
        now += 100.0 if len(calls) <= 2 else (seconds if compiled else 1.0) + len(calls) % 5

    assert compiled_is_faster(infer, clock=lambda: now) == faster
    assert calls == [True, False] * 6


QUIET = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # in torch's own compiler


@pytest.fixture
def _whichever(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled wins, whatever it takes."""
    monkeypatch.setattr("pipelines.model.compiled_is_faster", lambda infer: [infer(True), infer(False)] == [None, None])
    yield
    torch.compiler.set_stance("default")


@QUIET
@pytest.mark.usefixtures("_whichever")
def test_a_compiled_model_gives_the_same(folder: Path) -> None:
    """For any number of rows, layout and number of threads, within rounding; nothing is compiled again for them."""
    model = loaded(folder)
    model.compile_if_faster(lambda: forward(model, (X,)))
    assert model._compiled is not None
    assert (model.report.compiled, model.warning) == (True, None)
    compiled = counters["stats"]["unique_graphs"]
    assert compiled
    for rows, threads in product((6, 1, 4, 5), (1, 2)):
        for inputs in (X[:rows], X[:rows].T.contiguous().T):
            with kernel_threads(threads):
                torch.testing.assert_close(forward(model, (inputs,)), expected(X[:rows]))
    assert model.warning is None
    assert counters["stats"]["unique_graphs"] == compiled


@QUIET
@pytest.mark.usefixtures("_whichever")
def test_without_a_compiler_the_model_runs_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a warning that says what to install."""

    def compiler(*_: object) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    model = loaded(folder)
    model.compile_if_faster(lambda: forward(model, (X,)))
    torch.testing.assert_close(forward(model, (X,)), expected(), rtol=0, atol=0)
    assert model.report.compiled is False
    assert model.warning is not None
    assert "the model runs as it is, since torch.compile failed: RuntimeError: No working C++ compiler found" in model.warning
    assert "apt-get install g++" in model.warning


@pytest.mark.usefixtures("_whichever")
def test_what_fails_only_when_compiled_later_is_computed_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another layout or size may be compiled in the middle of a run."""

    def compiled(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 3:
            raise NotImplementedError("no kernel for this")
        return expected(x)

    monkeypatch.setattr(torch, "compile", lambda _, *, dynamic: compiled if dynamic else None)
    model = loaded(folder)
    model.compile_if_faster(lambda: forward(model, (X[:3],)))
    assert model.report.compiled is True
    torch.testing.assert_close(forward(model, (X,)), expected(), rtol=0, atol=0)
    assert model.report.compiled is False
    assert "NotImplementedError: no kernel for this" in (model.warning or "")


@QUIET
@pytest.mark.usefixtures("_whichever")
def test_a_model_that_is_wrong_compiled_or_not_is_the_models_error(folder: Path) -> None:
    """In its own words."""
    model = loaded(folder)
    with pytest.raises(ModelError, match=r"failed on inputs torch\.float32 \[6, 5\]: RuntimeError"):
        model.compile_if_faster(lambda: forward(model, (torch.zeros(6, 5),)))
