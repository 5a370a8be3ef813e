"""Does diffusers load what lorakit writes, and does it compute the same? By hand: diffusers and torch are not in CI.

    pip install torch peft diffusers
    python tests/peers/diffusers_loads.py target/debug/lorakit

For each model: a tiny one with random weights and a live adapter on every linear layer, whose output is what counts.
The adapter is saved as diffusers saves it, converted to kohya's format and back, reduced to its own rank, and loaded by
diffusers each time; modules that are applied are counted. It is merged into the model's folder, with both spellings.
Adapters and checkpoints that are spelled as the models were published are compared with what diffusers itself makes of
them. Takes a minute.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import torch
from diffusers.loaders import lora_pipeline, single_file_utils
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

RANK, ALPHA = 4, 6
R = torch.randn


def flux():
    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8], guidance_embeds=True)
    given = dict(hidden_states=R(1, 16, 4), encoder_hidden_states=R(1, 8, 32), pooled_projections=R(1, 32),
                 timestep=torch.tensor([0.5]), img_ids=R(16, 3), txt_ids=R(8, 3), guidance=torch.tensor([3.0]))
    return model, given, "transformer", "FluxLoraLoaderMixin"


def flux2():
    model = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, timestep_guidance_channels=32, axes_dims_rope=[4, 4, 4, 4])
    given = dict(hidden_states=R(1, 16, 16), encoder_hidden_states=R(1, 8, 32), timestep=torch.tensor([0.5]),
                 img_ids=R(16, 4), txt_ids=R(8, 4), guidance=torch.tensor([3.0]))
    return model, given, "transformer", "Flux2LoraLoaderMixin"


def wan():
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=256, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32)
    given = dict(hidden_states=R(1, 4, 2, 16, 16), timestep=torch.tensor([500]), encoder_hidden_states=R(1, 12, 16))
    return model, given, "transformer", "WanLoraLoaderMixin"


def hunyuan():
    model = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=2, num_single_layers=2,
        num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True, text_embed_dim=16,
        pooled_projection_dim=8, rope_axes_dim=(2, 4, 4))
    given = dict(hidden_states=R(1, 4, 1, 8, 8), encoder_hidden_states=R(1, 12, 16), timestep=torch.tensor([500]),
                 encoder_attention_mask=torch.ones(1, 12), pooled_projections=R(1, 8), guidance=torch.tensor([3.0]))
    return model, given, "transformer", "HunyuanVideoLoraLoaderMixin"


def qwen():
    model = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=3,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4))
    given = dict(hidden_states=R(1, 16, 16), encoder_hidden_states=R(1, 7, 16), timestep=torch.tensor([0.5]),
                 encoder_hidden_states_mask=torch.ones(1, 7, dtype=torch.long), img_shapes=[(1, 4, 4)])
    return model, given, "transformer", "QwenImageLoraLoaderMixin"


def z_image():
    model = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, qk_norm=True, cap_feat_dim=16, rope_theta=256.0, t_scale=1000.0, axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32])
    given = dict(x=[R(16, 1, 8, 8)], t=torch.tensor([0.5]), cap_feats=[R(8, 16)])
    return model, given, "transformer", "ZImageLoraLoaderMixin"


def sd15():
    model = diffusers.UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 8, 16, 16), layers_per_block=2, cross_attention_dim=16,
        attention_head_dim=2, norm_num_groups=4)
    given = dict(sample=R(1, 4, 16, 16), timestep=torch.tensor([500]), encoder_hidden_states=R(1, 7, 16))
    return model, given, "unet", "StableDiffusionLoraLoaderMixin"


def run(model, given):
    with torch.no_grad():
        out = model(**given, return_dict=False)[0]
    return out[0] if isinstance(out, list) else out


def lorakit(*line):
    done = subprocess.run([PROGRAM, *map(str, line)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"lorakit {' '.join(map(str, line))}\n{done.stderr}")


def load(make, file, expected=None):
    """The output with an adapter that diffusers reads from a file, and the number of modules that it applies."""
    torch.manual_seed(0)
    model, given, component, mixin = make()
    shake(model)
    read = getattr(lora_pipeline, mixin).lora_state_dict(str(file), return_lora_metadata=True)
    state, metadata = read[0], read[-1]
    model.load_lora_adapter(state, prefix=component, metadata=metadata, adapter_name="a")
    return run(model, given), sum(isinstance(m, LoraLayer) for m in model.modules())


def shake(model):
    """Random weights, also where models begin with zeros."""
    with torch.no_grad():
        for _, p in sorted(model.named_parameters()):
            p.add_(torch.randn_like(p) * 0.05)


def off(found, meant):
    return ((found - meant).norm() / meant.norm()).item()


def judge(name, what, distance, applied=None, of=None):
    good = distance < 2e-5 and applied == of
    RESULTS.append(good)
    count = "" if of is None else f", {applied} of {of} modules applied"
    print(f"{'ok  ' if good else 'BAD '} {name:10} {what:42} {distance:.1e} off{count}", flush=True)


def attempt(name, what, action):
    try:
        judge(name, what, *action())
    except Exception as error:
        RESULTS.append(False)
        print(f"BAD  {name:10} {what:42} {type(error).__name__}: {str(error)[:600]}", flush=True)


def check(make, work):
    name = make.__name__
    torch.manual_seed(0)
    model, given, component, _ = make()
    shake(model)
    folder = work / "model"
    model.save_pretrained(folder)
    plain = run(model, given)
    targets = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    if component == "unet":
        targets = [n for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, init_lora_weights=False))
    live = run(model, given)
    print(f"     {name:10} the adapter moves the output by {off(live, plain):.1e}, {len(targets)} modules")
    state = get_peft_model_state_dict(model, adapter_name="default")
    state = {f"{component}.{k}": v.contiguous() for k, v in state.items()}
    metadata = {f"{component}.{k}": v for k, v in {"r": RANK, "lora_alpha": ALPHA, "target_modules": targets}.items()}
    adapter = work / "adapter.safetensors"
    save_file(state, adapter, {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)})
    weights = "pytorch_lora_weights.safetensors"

    def loaded(verb, *options):
        def action():
            lorakit(verb, adapter, "-o", work / verb, "--force", *options)
            found, applied = load(make, work / verb / weights)
            return off(found, live), applied, len(targets)
        return action

    attempt(name, "convert --to diffusers", loaded("convert", "--to", "diffusers"))
    attempt(name, "reduce to its rank", loaded("reduce", "--rank", RANK))
    attempt(name, "combine alone", loaded("combine", "--method", "cat"))

    def through_kohya():
        lorakit("convert", adapter, "-o", work / "kohya.safetensors", "--force", "--to", "kohya")
        lorakit("convert", work / "kohya.safetensors", "-o", work / "back", "--force", "--to", "diffusers")
        found, applied = load(make, work / "back" / weights)
        return off(found, live), applied, len(targets)

    attempt(name, "to kohya and back", through_kohya)

    def merged(source):
        def action():
            lorakit("merge", folder, source, "-o", work / "merged", "--force")
            whole = type(model).from_pretrained(work / "merged")
            return (off(run(whole, given), live),)
        return action

    attempt(name, "merge diffusers' file into the folder", merged(adapter))
    attempt(name, "merge kohya's file into the folder", merged(work / "kohya.safetensors"))


# Names of published checkpoints, with outputs and inputs.
D = 32
ORIGINALS = {
    flux2: [(f"double_blocks.{i}.{n}", o, w) for i in range(2) for n, o, w in [
        ("img_attn.qkv", 3 * D, D), ("txt_attn.qkv", 3 * D, D), ("img_attn.proj", D, D), ("txt_attn.proj", D, D),
        ("img_mlp.0", 6 * D, D), ("img_mlp.2", D, 3 * D), ("txt_mlp.0", 6 * D, D), ("txt_mlp.2", D, 3 * D)]]
    + [(f"single_blocks.{i}.{n}", o, w) for i in range(2) for n, o, w in [("linear1", 9 * D, D), ("linear2", D, 4 * D)]]
    + [("img_in", D, 16), ("single_stream_modulation.lin", 3 * D, D)],
    wan: [(f"blocks.{i}.{n}", o, w) for i in range(2) for n, o, w in [
        ("self_attn.q", 24, 24), ("self_attn.k", 24, 24), ("self_attn.v", 24, 24), ("self_attn.o", 24, 24),
        ("cross_attn.q", 24, 24), ("cross_attn.o", 24, 24), ("ffn.0", 32, 24), ("ffn.2", 24, 32)]],
    z_image: [(f"layers.{i}.{n}", o, w) for i in range(2) for n, o, w in [
        ("attention.to_q", D, D), ("attention.to_out.0", D, D), ("adaLN_modulation.0", 4 * D, D)]],
    hunyuan: [(f"double_blocks.{i}.{n}", o, w) for i in range(2) for n, o, w in [
        ("img_attn_qkv", 60, 20), ("txt_attn_qkv", 60, 20), ("img_attn_proj", 20, 20), ("img_mlp.fc1", 80, 20),
        ("txt_mlp.fc2", 20, 80)]],
}


def originals(make, work):
    """Adapters with the names of the publication: what diffusers makes of them, and of what lorakit writes."""
    name = make.__name__
    torch.manual_seed(1)
    state = {}
    for layer, outputs, inputs in ORIGINALS[make]:
        state[f"diffusion_model.{layer}.lora_A.weight"] = R(RANK, inputs)
        state[f"diffusion_model.{layer}.lora_B.weight"] = R(outputs, RANK) * 0.1
    if make is wan:
        for i in range(2):
            state[f"diffusion_model.blocks.{i}.ffn.0.diff_b"] = R(32)
    adapter = work / "original.safetensors"
    save_file(state, adapter)
    meant, count = load(make, adapter)

    def converted():
        lorakit("convert", adapter, "-o", work / "from-original", "--force", "--to", "diffusers")
        found, applied = load(make, work / "from-original" / "pytorch_lora_weights.safetensors")
        return off(found, meant), applied, count

    attempt(name, "published names to diffusers", converted)

    def merged():
        lorakit("merge", work / "model", adapter, "-o", work / "merged", "--force")
        torch.manual_seed(0)
        model, given, *_ = make()
        return (off(run(type(model).from_pretrained(work / "merged"), given), meant),)

    attempt(name, "merge published names into the folder", merged)
    if make is wan:
        # What diffusers has no place for is in the file all the same.
        state["diffusion_model.blocks.0.norm3.diff"] = R(24)
        save_file(state, adapter)
        attempt(name, "the same with a norm, which diffusers drops", converted)
    convert = {wan: "convert_wan_transformer_to_diffusers", flux2: "convert_flux2_transformer_checkpoint_to_diffusers"}
    if make not in convert:
        return
    state = {k: v for k, v in state.items() if "norm3" not in k}
    save_file(state, adapter)
    lorakit("convert", adapter, "-o", work / "from-original", "--force", "--to", "diffusers")

    def checkpoint(prefix):
        def action():
            base = {f"{prefix}{layer}.weight": R(o, i) for layer, o, i in ORIGINALS[make]}
            if make is wan:
                base |= {f"{prefix}blocks.{i}.ffn.0.bias": R(32) for i in range(2)}
            save_file(base, work / "published.safetensors")
            lorakit("merge", work / "published.safetensors", adapter, "-o", work / "pm.safetensors", "--force")
            into = getattr(single_file_utils, convert[make])
            as_folder = work / "as-diffusers"
            as_folder.mkdir(exist_ok=True)
            save_file({k: v.contiguous() for k, v in into({k.removeprefix(prefix): v for k, v in base.items()}).items()}, as_folder / "diffusion_pytorch_model.safetensors")
            (as_folder / "config.json").write_text('{"_class_name": "Model"}')
            lorakit("merge", as_folder, work / "from-original", "-o", work / "as-merged", "--force")
            mine = into({k.removeprefix(prefix): v for k, v in load_file(work / "pm.safetensors").items()})
            theirs = load_file(work / "as-merged" / "diffusion_pytorch_model.safetensors")
            assert mine.keys() == theirs.keys()
            before = load_file(as_folder / "diffusion_pytorch_model.safetensors")
            moved = max(off(mine[k], before[k]) for k in before)
            assert moved > 1e-3, "nothing was merged"
            return (max(off(mine[k], theirs[k]) for k in mine),)
        return action

    attempt(name, "merge into the published checkpoint", checkpoint(""))
    attempt(name, "the same with model.diffusion_model.", checkpoint("model.diffusion_model."))


def main():
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    print(f"diffusers {diffusers.__version__}")
    for make in (flux, flux2, wan, hunyuan, qwen, z_image, sd15):
        with tempfile.TemporaryDirectory() as work:
            check(make, pathlib.Path(work))
            if make in ORIGINALS:
                originals(make, pathlib.Path(work))
    print(f"{sum(RESULTS)} of {len(RESULTS)} as they should be")
    sys.exit(not all(RESULTS))


PROGRAM = pathlib.Path(sys.argv[1]).resolve()
RESULTS = []
main()
