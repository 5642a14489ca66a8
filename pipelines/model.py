"""The model: loaded from exactly the bytes that were hashed, without running code from them, and called."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch.nn.parameter import is_lazy

from pipelines import archive, devices, entrypoint, versions
from pipelines.compiling import compiled_is_faster
from pipelines.devices import Computed, Device, Inputs, Pending, mapped, tensors
from pipelines.errors import ModelError, OutOfMemoryError
from pipelines.fitting import ran_out_of_memory
from pipelines.objects import Place, StoreError, place
from pipelines.report import ModelReport
from pipelines.settings import ModelSettings

Autocast = Callable[[], AbstractContextManager[Any]]

_NAMED_AT_MOST = 3


class Model:
    """A loaded model. May be called from several threads; `device` is where."""

    def __init__(self, module: torch.nn.Module, report: ModelReport, device: Device, autocast: Autocast = nullcontext) -> None:
        self.report = report
        self.fingerprint = report.sha256
        self.device = device
        self._module = module
        self._autocast = autocast
        self._contiguous: bool | None = None  # whether it needs inputs to be; None: not known yet
        self._compiled: Callable[..., Any] | None = None
        self.warning: str | None = None

    def compile_if_faster(self, infer: Callable[[], object]) -> None:
        """Use the model under `torch.compile` from now on, if `infer`, which calls it, is faster so.

        The batch dimension is dynamic. Nothing is compiled later: what would need that (a single row, rows in another layout, a
        thread that may use more cores) is computed by the model as it is. Where compiling fails, so is everything, and
        `warning` says why. Raises what `infer` raises for the model as it is.
        """
        torch.compiler.set_stance("default")
        compiled = torch.compile(self._module, dynamic=True)

        def switched(on: bool) -> None:  # noqa: FBT001  passed on as it is
            self._compiled = compiled if on and self.warning is None else None
            infer()

        faster = compiled_is_faster(switched) and self.warning is None
        torch.compiler.set_stance("eager_on_recompile")  # or a run stands still for a minute, in the middle
        self._compiled = compiled if faster else None
        self.report = replace(self.report, compiled=faster)

    def submit(self, inputs: Inputs) -> Pending:
        """Begin with a batch, whose inputs lie on the host.

        Raises:
            OutOfMemoryError: there is not enough memory for so many rows.
            ModelError: the model fails on inputs of this shape, or returns something else than one tensor.

        """
        try:
            return self.device.submit(self._output, inputs)
        except ModelError:
            raise
        except Exception as error:
            if ran_out_of_memory(error):
                raise OutOfMemoryError(
                    f"out of memory on {self.report.device} with {_shapes(inputs)}: {_first_line(error)}; "
                    "lower batch.rows or batch.workers"
                ) from error
            raise ModelError(
                f"the model failed on {_shapes(inputs)}: {_first_line(error)}; check 'features', 'shape' and 'dtype' against "
                "the model (a torch.export program needs a dynamic batch dimension)"
            ) from error

    def collect(self, pending: Pending) -> Computed:
        """The output `[N, …]` of a batch that was submitted, on the host. Raises `ModelError` when it failed meanwhile."""
        try:
            return pending.collect()
        except RuntimeError as error:
            raise ModelError(
                f"the model failed on {self.report.device}: {_first_line(error)}; a device reports errors late: it may "
                "have been a batch before (CUDA_LAUNCH_BLOCKING=1 shows where)"
            ) from error

    def _output(self, inputs: Inputs) -> torch.Tensor:
        output = self._call(inputs)
        if not isinstance(output, torch.Tensor):
            raise ModelError(f"the model returned a {type(output).__name__}: it must return one tensor")
        if output.layout != torch.strided:
            raise ModelError(
                f"the model returned a tensor of layout {output.layout}: it must return a dense one; use to_dense()"
            )
        return output.detach().resolve_neg()  # a view of a parameter, say, still wants gradients

    def _call(self, inputs: Inputs) -> Any:
        if self._contiguous:
            return self._run(mapped(torch.Tensor.contiguous, inputs))
        if self._contiguous is False or all(tensor.is_contiguous() for tensor in tensors(inputs)):
            return self._run(inputs)
        # Scalar columns come as a transposed view, which `view` refuses in some models; reshape would not. The second try
        # has inputs of its own, as the first may have written to them.
        spare = mapped(lambda tensor: tensor.clone(memory_format=torch.contiguous_format), inputs)
        try:
            output, needed = self._run(inputs), False
        except RuntimeError as error:
            if ran_out_of_memory(error):
                raise
            output, needed = self._run(spare), True
        self._contiguous = needed
        return output

    @torch.inference_mode()
    def _run(self, inputs: Inputs) -> Any:
        with self._autocast():
            compiled = self._compiled
            if compiled is not None:
                try:
                    return _called(compiled, inputs)
                except Exception as error:
                    if ran_out_of_memory(error):
                        raise
                    self._give_up_compiled(error)
            return _called(self._module, inputs)

    def _give_up_compiled(self, error: Exception) -> None:
        self._compiled = None
        self.report = replace(self.report, compiled=False)
        error = getattr(error, "inner_exception", error)  # torch's own says only that there was one
        self.warning = (
            f"the model runs as it is, since torch.compile failed: {_first_line(error)}; it needs a C++ compiler "
            "(on Debian: apt-get install g++); or set model.compile = false"
        )


def load(settings: ModelSettings, folder: Path) -> Model:
    """The model that a job file names; `folder` is where its factory is looked for.

    Raises:
        ModelError: the file is missing, isn't the pinned one, could run code, or doesn't fit the factory.
        SpecError: the factory's entrypoint isn't there.

    """
    device = devices.find(settings.device)
    autocast = _autocast(device.torch, settings.precision)
    path = place(settings.path or settings.weights or "")
    content = _read(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if settings.sha256 is not None and settings.sha256.lower() != sha256:
        raise ModelError(f"model {path}: its SHA-256 is {sha256}, but model.sha256 pins {settings.sha256.lower()}")
    try:
        module, format_ = (
            _from_factory(settings, folder, path, content)
            if settings.factory
            else _from_path(settings, folder, path, content, device.torch)
        )
        module = module.to(device.torch)
    except ModelError as error:
        raise ModelError(f"model {path}: {error}") from error.__cause__
    parameters = sum(parameter.numel() for parameter in module.parameters())
    known = versions.version_of(path, sha256) if isinstance(path, Path) else None  # a retraining needs a disk
    version = known.version if known else settings.version
    report = ModelReport(version, sha256, format_, str(device.torch), parameters, settings.precision)
    return Model(module, report, device, autocast)


def _read(path: Place) -> bytes:
    try:
        return path.read_bytes()
    except StoreError as error:
        raise ModelError(f"model {error}") from error
    except OSError as error:
        raise ModelError(f"model {path}: can't be read: {error.strerror}") from error


def _autocast(device: torch.device, precision: str) -> Autocast:
    """What the model is called within. Raises `ModelError` where the device can't compute so."""
    if precision == "float32":
        return nullcontext
    autocast = partial(torch.autocast, device.type, dtype=getattr(torch, precision))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns, and does nothing
            with autocast():
                return autocast
    except (RuntimeError, UserWarning) as error:
        raise ModelError(
            f"model.precision is {precision!r}, which {device} can't do: {_first_line(error)}; use 'float32'"
        ) from error


def _from_factory(settings: ModelSettings, folder: Path, path: Place, content: bytes) -> tuple[torch.nn.Module, str]:
    assert settings.factory is not None  # the caller asked
    weights, format_ = _weights(settings, path, content)
    factory = entrypoint.load(settings.factory, folder)
    try:
        module = factory()
    except Exception as error:
        raise ModelError(f"factory {settings.factory!r} failed: {_first_line(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"factory {settings.factory!r} returned a {type(module).__name__}, not a torch.nn.Module")
    _put(module, weights)
    return module.eval(), format_


def _weights(settings: ModelSettings, path: Place, content: bytes) -> tuple[Mapping[str, torch.Tensor], str]:
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load(content), "safetensors"
        except safetensors.SafetensorError as error:
            raise ModelError(f"isn't a safetensors file, or it is damaged: {_first_line(error)}") from error
    if path.suffix not in (".pt", ".pth"):
        raise ModelError("'weights' must be .safetensors, .pt or .pth")
    loaded = _unpickle(settings, content, "safetensors.torch.save_file(model.state_dict(), …)")
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        keys = f" with {', '.join(map(repr, list(loaded)[:_NAMED_AT_MOST]))}" if isinstance(loaded, dict) else ""
        raise ModelError(f"holds a {type(loaded).__name__}{keys}, not a state dict: save model.state_dict() alone")
    return loaded, "state_dict"


def _from_path(
    settings: ModelSettings, folder: Path, path: Place, content: bytes, device: torch.device
) -> tuple[torch.nn.Module, str]:
    if path.suffix == ".pt2":
        return _exported(settings, content, device), "pt2"
    if path.suffix not in (".pt", ".pth"):
        raise ModelError("'path' must be a torch.export program (.pt2)")
    if settings.trust != "code":
        raise ModelError(
            "a pickled module or TorchScript may run code on load: convert it with "
            "torch.export.save(torch.export.export(model, …), '….pt2'), or give 'factory' and 'weights'; "
            "trust = 'code' loads a pickled module that you vouch for"
        )
    entrypoint.allow_imports(folder)
    module = _unpickle(settings, content, "torch.export.save(torch.export.export(model, …), …)")
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"holds a {type(module).__name__}, not a module: for a state dict, give 'factory' and 'weights'")
    return module.eval(), "pickle"


def _exported(settings: ModelSettings, content: bytes, device: torch.device) -> torch.nn.Module:
    """The program as a module, without its guards, which are Python source; its input constraints are still checked."""
    if settings.trust != "code":
        try:
            archive.check(content)
        except ModelError as error:
            raise ModelError(f"{error}; export it again, or say trust = 'code' if you vouch for it") from error
    try:
        program = torch.export.load(io.BytesIO(content))
    except Exception as error:
        raise ModelError(f"can't be loaded by torch {torch.__version__}: {_first_line(error)}; export it again") from error
    if _trains(program):
        raise ModelError(
            "was exported in training mode, so what it says depends on chance or on the batch: call model.eval() first"
        )
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass  # noqa: PLC0415  only accelerators need it

        program = move_to_device_pass(program, device)
    return program.module(check_guards=False)


def _trains(program: torch.export.ExportedProgram) -> bool:
    """Whether dropout or batch normalisation is at work in it as in training: of a program no `eval()` changes that."""
    return any(map(_node_trains, program.graph.nodes))


def _node_trains(node: torch.fx.Node) -> bool:
    arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
    given = dict(zip((argument.name for argument in arguments), node.args, strict=False)) | node.kwargs
    if given.get("dropout_p"):  # of attention
        return True
    if not (given.get("train") or given.get("training")):
        return False
    if "batch_norm" in str(node.target):
        return given.get("running_mean") is not None  # without statistics of training it can do nothing else
    return bool(given.get("p", given.get("dropout", 1)))


def _unpickle(settings: ModelSettings, content: bytes, conversion: str) -> Any:
    if archive.is_torchscript(content):
        raise ModelError(f"is TorchScript, which torch has deprecated: convert it with {conversion}")
    if settings.trust != "code":
        try:
            return archive.read_pickle(content)
        except ModelError as error:
            raise ModelError(f"{error}: convert it with {conversion}, or say trust = 'code' if you vouch for it") from error
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as error:
        raise ModelError(f"can't be unpickled: {_first_line(error)}") from error


def _put(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights strictly. Of tensors that the module ties together, one is enough."""
    own = module.state_dict()
    lazy = {name for name, tensor in own.items() if is_lazy(tensor)}  # of no shape yet: the weights give it
    tied = {tensor.data_ptr() for name, tensor in own.items() if name in weights and name not in lazy}
    flaws = {
        "lack": [name for name in own if name not in weights and (name in lazy or own[name].data_ptr() not in tied)],
        "have unknown": [name for name in weights if name not in own],
        "have in another shape": [
            f"{name} {list(weights[name].shape)} instead of {list(own[name].shape)}"
            for name in own
            if name in weights and name not in lazy and weights[name].shape != own[name].shape
        ],
    }
    found = [
        f"{what} {', '.join(names[:_NAMED_AT_MOST])}{' …' if len(names) > _NAMED_AT_MOST else ''}"
        for what, names in flaws.items()
        if names
    ]
    if found:
        raise ModelError(f"the weights don't fit the factory's module: they {'; they '.join(found)}")
    module.load_state_dict(weights, strict=False)


def _called(model: Callable[..., Any], inputs: Inputs) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def _shapes(inputs: Inputs) -> str:
    named = inputs.items() if isinstance(inputs, dict) else (("", tensor) for tensor in inputs)
    return "inputs " + ", ".join(f"{name} {tensor.dtype} {list(tensor.shape)}".strip() for name, tensor in named)


def _first_line(error: BaseException) -> str:
    """What went wrong in one line, and where, if it was in the user's own code."""
    return f"{type(error).__name__}: {error}".strip().split("\n")[0] + entrypoint.blame(error)
