"""What a merge should be: deltas computed in f64 from the stored factors, by the rules that PEFT documents."""

import torch
from peft.tuners.lora import layer as lora
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import nn


class Unknown(Exception):
    """There is no rule here for this kind of layer: PEFT's own merge in f64 is the truth."""


def path_of(name: str) -> str:
    """The path in the base of a module or tensor of the wrapped model."""
    for wrapper in ("base_model.model.", "token_adapter.", "base_layer.", "original_module."):
        name = name.replace(wrapper, "")
    return name.removesuffix(".base_layer")


def product(layer, adapter: str) -> torch.Tensor:
    """`scale * B * A` in the orientation of the layer's weight."""
    if adapter in layer.lora_embedding_A:
        a, b = layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]
        return layer.scaling[adapter] * (b @ a).T
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    if isinstance(layer, lora.ParamWrapper):
        return experts(layer, a, b) * layer.scaling[adapter]
    if a.dim() == 2:
        delta = b @ a
        return layer.scaling[adapter] * (delta.T if layer.fan_in_fan_out else delta)
    # Each group of outputs has its own slice of the rank, and A is the kernel.
    groups = layer.get_base_layer().groups
    parts = zip(a.flatten(1).chunk(groups), b.flatten(1).chunk(groups))
    delta = torch.cat([high @ low for low, high in parts])
    return layer.scaling[adapter] * delta.reshape(layer.get_base_layer().weight.shape)


def experts(layer, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A stack of matrices: A holds the ranks of one expert after another, B the experts of one rank."""
    shape = layer.get_param().shape
    if len(shape) == 2:
        return b @ a
    count = shape[0]
    a = a.reshape(count, -1, a.shape[1])
    b = b.reshape(b.shape[0], -1, count).permute(2, 0, 1)
    delta = torch.bmm(b, a)
    if delta.shape != shape or not getattr(layer.get_base_layer(), "is_transposed", False):
        return delta if delta.shape == shape else delta.transpose(1, 2)
    return delta


def changed(layer, weight: torch.Tensor, adapter: str) -> torch.Tensor:
    """A weight with one adapter."""
    variant = getattr(layer, "lora_variant", {}).get(adapter)
    if variant is not None and "Dora" not in type(variant).__name__:
        raise Unknown(type(variant).__name__)
    total = weight + product(layer, adapter)
    if variant is None:
        return total
    magnitude = layer.lora_magnitude_vector[adapter].weight
    if adapter in layer.lora_embedding_A or getattr(layer, "fan_in_fan_out", False):
        return total * (magnitude.flatten() / total.norm(dim=0))
    if total.dim() == 2:
        return total * (magnitude / total.norm(dim=1)).unsqueeze(1)
    return total * (magnitude.flatten() / total.flatten(1).norm(dim=1)).reshape(-1, *[1] * (total.dim() - 1))


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor of the base as the adapters leave it, by its name in the base."""
    marks = (".lora_", ".modules_to_save.", "trainable_tokens_", ".lora_magnitude_vector")
    state = {path_of(name): tensor for name, tensor in model.state_dict().items() if not any(m in name for m in marks)}
    # What is wrapped before what wraps it: rows are replaced first, then a delta is added to all of them.
    for name, layer in reversed([*model.named_modules()]):
        path = path_of(name)
        active = getattr(layer, "active_adapters", [])
        if isinstance(layer, (lora.LoraLayer, lora.ParamWrapper)):
            # Methods that build on LoRA's layers have rules of their own.
            if isinstance(layer, lora.MultiheadAttention) or not type(layer).__module__.startswith("peft.tuners.lora."):
                raise Unknown(type(layer).__name__)
            key = f"{path}.{getattr(layer, 'parameter_name', 'weight')}"
            for adapter in active:
                if adapter in layer.lora_A or adapter in layer.lora_embedding_A:
                    state[key] = changed(layer, state[key], adapter)
                    if adapter in layer.lora_B and getattr(layer.lora_B[adapter], "bias", None) is not None:
                        extra = layer.lora_B[adapter].bias * layer.scaling[adapter]
                        state[f"{path}.bias"] = state[f"{path}.bias"] + extra
        elif isinstance(layer, TrainableTokensLayer):
            for adapter in active:
                if adapter in layer.token_indices:
                    rows = state[f"{path}.weight".replace(".token_adapter", "")].clone()
                    rows[layer.token_indices[adapter]] = layer.get_merged_weights([adapter])[layer.token_indices[adapter]]
                    state[f"{path}.weight".replace(".token_adapter", "")] = rows
        elif isinstance(layer, ModulesToSaveWrapper) and not isinstance(layer, TrainableTokensWrapper):
            for adapter in active:
                if adapter in layer.modules_to_save:
                    saved = layer.modules_to_save[adapter].state_dict()
                    state.update({f"{path}.{leaf}": tensor for leaf, tensor in saved.items()})
        elif hasattr(layer, "adapter_layer_names") and not isinstance(layer, TrainableTokensWrapper):
            raise Unknown(type(layer).__name__)
    return state


def apply(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Gives the base these tensors. Sides of a tied pair that no longer agree become two; says whether that was so."""
    shared: dict[int, list] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                shared.setdefault(id(parameter), []).append((module, leaf, f"{path}.{leaf}".lstrip(".")))
        for leaf, buffer in module._buffers.items():
            if (name := f"{path}.{leaf}".lstrip(".")) in state and buffer is not None:
                buffer.copy_(state[name])
    untied = False
    for places in shared.values():
        first = state[places[0][2]]
        if all(torch.equal(state[name], first) for _, _, name in places):
            module, leaf, _ = places[0]
            module._parameters[leaf].data = first.detach().clone()
            continue
        untied = True
        for module, leaf, name in places:
            module._parameters[leaf] = nn.Parameter(state[name].detach().clone())
    if untied and hasattr(model, "config"):
        for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
            config.tie_word_embeddings = False
    return untied
