"""Makes adapters with PEFT, and lets PEFT use and merge them."""

import pathlib

import torch
from peft import PeftMixedModel, PeftModel, get_peft_model
from torch import nn

from .case import Case


def train(model: nn.Module, seed: int) -> None:
    """Gives everything that training would change a value that is neither zero nor what it was."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return 0.2 * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.requires_grad:
                # A magnitude of DoRA is a norm: it stays positive.
                tensor.mul_(1 + noise(tensor)) if "magnitude" in name else tensor.add_(noise(tensor))
        for name, tensor in model.named_buffers():
            if "modules_to_save" in name and tensor.is_floating_point():
                tensor.add_(noise(tensor).abs())


def make(case: Case, base: pathlib.Path, folders: list[pathlib.Path]) -> None:
    """Saves each adapter of the case. Fails where PEFT knows no such adapter."""
    for seed, (config, folder) in enumerate(zip(case.adapters, folders)):
        torch.manual_seed(seed)
        model = get_peft_model(case.wrap(case.prepare(case.base.load(base, case.dtype))), config())
        case.start(model)
        if case.finish:
            # What PEFT compares with when it converts: the adapter as it was initialised.
            config = model.peft_config["default"]
            config.init_lora_weights, kind = True, config.init_lora_weights
            model.save_pretrained(folder / "init")
            config.init_lora_weights = kind
        train(model, seed + 1)
        case.finish(model, folder) if case.finish else model.save_pretrained(folder, **case.save)


def live(case: Case, base: pathlib.Path, folders: list[pathlib.Path], dtype: torch.dtype) -> nn.Module:
    """The base with all adapters, not merged."""
    torch.manual_seed(0)
    model = case.prepare(case.base.load(base, dtype))
    names = [f"a{index}" for index in range(len(folders))]
    kind = PeftMixedModel if case.mixed else PeftModel
    model = kind.from_pretrained(model, folders[0], adapter_name=names[0])
    for name, folder in zip(names[1:], folders[1:]):
        model.load_adapter(folder, adapter_name=name)
    if case.mixed:
        model.set_adapter(names)
    elif len(names) > 1:
        model.base_model.set_adapter(names)
    return model.eval()


def merged(model: nn.Module) -> nn.Module:
    """PEFT's own merge."""
    return model.merge_and_unload()


def stacked(case: Case, base: pathlib.Path, folders: list[pathlib.Path]) -> nn.Module:
    """The base after merging one adapter after another."""
    torch.manual_seed(0)
    model = case.prepare(case.base.load(base, case.exact))
    for folder in folders:
        model = merged(PeftModel.from_pretrained(model, folder)).eval()
    return model
