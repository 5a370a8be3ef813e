"""Does a merge of a tied model compute what base and adapter compute? Run by `just full`: torch is not in CI.

    pip install torch peft transformers
    python tests/peers/tied_families.py target/debug/lorakit [FAMILY...]
    python tests/peers/tied_families.py --golden fixtures/golden/tied

Builds tiny tied models of many families with transformers, trains nothing but gives random values to adapters on the
embedding, on the output, on both, and to saved copies of either. Each merge is loaded by transformers and its logits
are compared with those of the live PEFT model. A refusal is counted with its reason; any difference fails.

`--golden` writes the selection that CI merges: base, adapter, and the tensors that the merge must hold. A merge is kept
only if transformers loads it and it computes the live model's logits.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

VOCABULARY, WIDTH = 24, 8
TEXT = dict(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=12, max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2)
LLAMA = dict(TEXT, num_key_value_heads=1, head_dim=8)
CODER = dict(vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
             decoder_attention_heads=1, encoder_ffn_dim=12, decoder_ffn_dim=12, pad_token_id=0, bos_token_id=1,
             eos_token_id=2, decoder_start_token_id=1)

# name: (model class, configuration class, arguments, embedding, output, a layer)
FAMILIES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA, "embed_tokens", "lm_head", "q_proj"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", LLAMA, "embed_tokens", "lm_head", "q_proj"),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", LLAMA, "embed_tokens", "lm_head", "q_proj"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config",
             dict(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=1, n_head=1, n_positions=16, bos_token_id=1, eos_token_id=2),
             "wte", "lm_head", "c_attn"),
    "opt": ("OPTForCausalLM", "OPTConfig", dict(TEXT, ffn_dim=12, word_embed_proj_dim=WIDTH), "embed_tokens", "lm_head", "q_proj"),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT, "embed_in", "lm_head", "query_key_value"),
    "bloom": ("BloomForCausalLM", "BloomConfig", dict(TEXT, n_head=1, n_layer=1), "word_embeddings", "lm_head", "query_key_value"),
    "falcon": ("FalconForCausalLM", "FalconConfig", dict(TEXT, new_decoder_architecture=False), "word_embeddings", "lm_head", "query_key_value"),
    "mamba": ("MambaForCausalLM", "MambaConfig",
              dict(vocab_size=VOCABULARY, hidden_size=WIDTH, state_size=4, num_hidden_layers=1, time_step_rank=2,
                   pad_token_id=0, bos_token_id=1, eos_token_id=2), "embeddings", "lm_head", "in_proj"),
    "bert": ("BertForMaskedLM", "BertConfig", TEXT, "word_embeddings", "cls.predictions.decoder", "query"),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", TEXT, "word_embeddings", "lm_head.decoder", "query"),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig",
                   dict(vocab_size=VOCABULARY, dim=WIDTH, n_layers=1, n_heads=1, hidden_dim=12, max_position_embeddings=16, pad_token_id=0),
                   "word_embeddings", "vocab_projector", "q_lin"),
    "electra": ("ElectraForMaskedLM", "ElectraConfig", dict(TEXT, embedding_size=WIDTH), "word_embeddings", "generator_lm_head", "query"),
    "t5": ("T5ForConditionalGeneration", "T5Config",
           dict(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=12, num_layers=1, num_heads=1, decoder_start_token_id=0),
           "embed_tokens", "lm_head", "q"),
    "bart": ("BartForConditionalGeneration", "BartConfig", dict(CODER, max_position_embeddings=16), "embed_tokens", "lm_head", "q_proj"),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig",
                dict(CODER, num_mel_bins=4, max_source_positions=8, max_target_positions=16), "embed_tokens", "proj_out", "q_proj"),
}
SHARED = ("t5", "bart")  # Several embeddings are `shared`, which no layer calls.


def kinds_of(family):
    _, _, _, embedding, head, layer = FAMILIES[family]
    kinds = {
        "layer": dict(target_modules=[layer]),
        "embedding": dict(target_modules=[layer, embedding]),
        "head": dict(target_modules=[layer, head]),
        "both": dict(target_modules=[layer, embedding, head]),
        "one": dict(target_modules=[layer, embedding, head], ensure_weight_tying=True),
        "save-embedding": dict(target_modules=[layer], modules_to_save=[embedding]),
        "save-head": dict(target_modules=[layer], modules_to_save=[head]),
        "save-both": dict(target_modules=[layer], modules_to_save=[embedding, head]),
        "tokens": dict(target_modules=[layer], trainable_token_indices={embedding: [3, 7]}),
    }
    if family in SHARED:
        kinds["shared"] = dict(target_modules=[layer, "shared"])
        kinds["save-shared"] = dict(target_modules=[layer], modules_to_save=["shared"])
    return kinds


def inputs_of(family):
    ids = torch.tensor([[5, 9, 3, 11, 7, 2]])
    if family == "whisper":
        return dict(input_features=torch.sin(torch.arange(64.0)).reshape(1, 4, 16), decoder_input_ids=ids)
    if family in SHARED:
        return dict(input_ids=ids, decoder_input_ids=torch.tensor([[0, 4, 3, 9]]))
    return dict(input_ids=ids)


def build(family):
    torch.manual_seed(sum(map(ord, family)))
    name, config, arguments, *_ = FAMILIES[family]
    config = getattr(transformers, config)(**arguments, tie_word_embeddings=True)
    model = getattr(transformers, name)(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def load(family, folder):
    return getattr(transformers, FAMILIES[family][0]).from_pretrained(folder, dtype=torch.float32).eval()


def logits(model, family):
    with torch.no_grad():
        return model(**inputs_of(family)).logits


def adapt(family, kind, base, folder):
    """Saves a random adapter of that kind in `folder`; returns the logits of base and adapter."""
    model = load(family, base)
    torch.manual_seed(len(kind) + 7)
    peft = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, **kinds_of(family)[kind]))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
            elif "modules_to_save" in name or "trainable_tokens_delta" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    peft.eval()
    live = logits(peft, family)
    peft.save_pretrained(folder)
    again = PeftModel.from_pretrained(load(family, base), folder).eval()
    drift = (logits(again, family) - live).abs().max().item()
    return live, drift


def merge(program, base, adapter, out):
    return subprocess.run([program, "merge", base, adapter, "-o", out], capture_output=True, text=True)


def check(program, family, kind, folder):
    base, adapter, out = folder / "base", folder / kind, folder / f"{kind}-merged"
    try:
        live, drift = adapt(family, kind, base, adapter)
    except Exception as error:
        return "PEFT refuses", str(error).splitlines()[0][:90]
    run = merge(program, base, adapter, out)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.startswith(("error", "  "))]
        return "refused" if run.returncode == 1 else "CRASH", " ".join(lines)[:300]
    merged = load(family, out)
    found = logits(merged, family)
    off = (found - live).abs().max().item() / live.abs().max().item()
    bias = getattr(merged.get_output_embeddings(), "bias", None)
    if off > 1e-5 and kind == "tokens" and bias is not None:
        # `TrainableTokensLayer` calls `F.linear` without the bias of the layer (PEFT 0.21.2).
        off = (found - bias - live).abs().max().item() / live.abs().max().item()
        return ("PEFT's fault" if off < 1e-5 else "DIFFERENT"), f"off {off:.1e} without the output's bias, which PEFT drops"
    plain = (logits(load(family, base), family) - live).abs().max().item() / live.abs().max().item()
    note = f"off {off:.1e}; the adapter moves logits by {plain:.1e}"
    if drift > 1e-6:
        note += f"; PEFT loads it {drift:.1e} off"
    return ("equal" if off < 1e-5 else "DIFFERENT"), note


GOLDEN = [("mamba", "embedding"), ("t5", "head"), ("bart", "embedding"), ("whisper", "head"), ("bert", "both"),
          ("gpt-neox", "head"), ("t5", "shared")]


def write_golden(program, target):
    """Base, adapter and the merged tensors that transformers loads as the live model."""
    shutil.rmtree(target, ignore_errors=True)
    for family, kind in GOLDEN:
        folder = target / f"{family}-{kind}"
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            build(family).save_pretrained(scratch / "base")
            live, _ = adapt(family, kind, scratch / "base", scratch / "adapter")
            run = merge(program, scratch / "base", scratch / "adapter", scratch / "out")
            refused = kind == "shared"
            assert refused == bool(run.returncode), run.stderr
            if not refused:
                found = logits(load(family, scratch / "out"), family)
                assert torch.allclose(found, live, rtol=1e-5, atol=1e-5), (family, kind)
            for name, files in (("base", ("config.json", "model.safetensors")),
                                ("adapter", ("adapter_config.json", "adapter_model.safetensors"))):
                (folder / name).mkdir(parents=True)
                for file in files:
                    shutil.copyfile(scratch / name / file, folder / name / file)
            if refused:
                continue
            base, out = (load_file(scratch / name / "model.safetensors") for name in ("base", "out"))
            changed = {n: t for n, t in out.items() if n not in base or not torch.equal(base[n], t)}
            save_file(changed, folder / "changed.safetensors")
            tied = json.loads((scratch / "out/config.json").read_text())["tie_word_embeddings"]
            expected = {"tie_word_embeddings": tied, "added": sorted(out.keys() - base.keys())}
            (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("families", nargs="*")
    parser.add_argument("--golden", type=pathlib.Path)
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.program).resolve())
    if arguments.golden:
        return write_golden(program, arguments.golden)
    outcomes = {}
    for family in arguments.families or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            build(family).save_pretrained(folder / "base")
            for kind in kinds_of(family):
                outcome, note = check(program, family, kind, folder)
                outcomes.setdefault(outcome, []).append((family, kind))
                print(f"{family:<11}{kind:<16}{outcome:<13}{note}", flush=True)
    print(", ".join(f"{len(cases)} {outcome}" for outcome, cases in sorted(outcomes.items())))
    sys.exit(any(outcome in ("DIFFERENT", "CRASH") for outcome in outcomes))


main()
