"""What a case is: a tiny random base, on disk and in memory, and the adapters to merge into it."""

import dataclasses
import pathlib
from collections.abc import Callable

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn


def randomised(model: nn.Module) -> nn.Module:
    """Moves every value away from what it was initialised with: norms of 1 and biases of 0 would hide mistakes."""
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
        for tensor in model.buffers():
            if tensor.is_floating_point() and tensor.dim() == 1 and "BatchNorm" in str(type(model)):
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model.eval()


@dataclasses.dataclass
class Hub:
    """A model of transformers: a class, its configuration, and what it is called with."""

    cls: type
    config: Callable
    inputs: Callable
    #: Arguments of `from_pretrained`.
    options: dict = dataclasses.field(default_factory=dict)

    def save(self, folder: pathlib.Path, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        randomised(self.cls(self.config())).to(dtype).save_pretrained(folder)

    def load(self, folder: pathlib.Path, dtype: torch.dtype) -> nn.Module:
        model, info = self.cls.from_pretrained(folder, dtype=dtype, output_loading_info=True, **self.options)
        wrong = {kind: list(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
        if wrong:
            raise ValueError(f"transformers does not load it as it is: {wrong}")
        return model.eval()

    def store(self, model: nn.Module, folder: pathlib.Path) -> None:
        model.save_pretrained(folder)

    def outputs(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            found = model(**self.inputs(next(model.parameters()).dtype))
        found = found.logits if "logits" in found else found.last_hidden_state
        return found.double()


@dataclasses.dataclass
class Plain:
    """A module that is no model of transformers: its state dictionary in a folder without a configuration."""

    build: Callable
    input: Callable

    def save(self, folder: pathlib.Path, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.store(randomised(self.build()).to(dtype), folder)

    def load(self, folder: pathlib.Path, dtype: torch.dtype) -> nn.Module:
        model = self.build()
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.to(dtype).eval()

    def store(self, model: nn.Module, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")

    def outputs(self, model: nn.Module) -> torch.Tensor:
        torch.manual_seed(1)
        given = self.input()
        if given.is_floating_point():
            given = given.to(next(model.parameters()).dtype)
        with torch.no_grad():
            return model(given).double()


@dataclasses.dataclass
class Case:
    """One row of the matrix."""

    name: str
    base: Hub | Plain
    #: Makes the configuration of each adapter, in the order of merging. PEFT changes configurations, so: anew.
    adapters: list[Callable]
    dtype: torch.dtype = torch.float32
    #: What the truth is computed in. A few methods of PEFT do not know f64.
    exact: torch.dtype = torch.float64
    #: What is done to the base before it gets the adapter, such as a larger vocabulary.
    prepare: Callable = lambda model: model
    #: What is done to the base only where the adapter is made, as initialisations that need data demand.
    wrap: Callable = lambda model: model
    #: Arguments of `save_pretrained`.
    save: dict = dataclasses.field(default_factory=dict)
    #: What happens to a trained adapter instead of `save_pretrained`: `finish(model, folder)`.
    finish: Callable | None = None
    #: What is done to a wrapped model before training, such as an initialisation that needs data.
    start: Callable = lambda model: None
    #: Adapters of different methods, which PEFT holds in a `PeftMixedModel`.
    mixed: bool = False
    #: Parameters that no layer computes with, whose values are free where outputs agree.
    idle: tuple[str, ...] = ()
    #: Why PEFT's merge computes something else than its live model, if it does.
    unlike_live: str = ""


def lora(**options) -> Callable:
    """Makes a `LoraConfig`."""
    return lambda: LoraConfig(**options)


def grid(group: str, bases: dict, configs: dict, **more) -> list[Case]:
    """A case for each base and each configuration (one, or a list to merge one after another)."""
    several = {name: config if isinstance(config, list) else [config] for name, config in configs.items()}
    return [
        Case(f"{group}/{base}/{name}", bases[base], adapters, **more) for base in bases for name, adapters in several.items()
    ]


def narrow(cases: list[Case], *dtypes: str) -> list[Case]:
    """The same cases with a base of fewer bits."""
    return [
        dataclasses.replace(case, name=f"{case.name}/{dtype}", dtype=getattr(torch, dtype))
        for dtype in dtypes
        for case in cases
    ]
