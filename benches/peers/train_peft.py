"""A training step of PEFT + bitsandbytes, to set beside `lorakit-benches train` on the same machine.

    pip install torch peft transformers bitsandbytes
    python benches/peers/train_peft.py [THREADS] [STEPS]

The model has the shape of SmolLM2-135M and random weights; the adapter has rank 16 on all linears; a step is 2 x 256
random tokens. Each row is a process of its own: the fastest step counts, in seconds of CPU time and of the clock, and
memory is the most that the process had (about 0.8 GB of it are libraries).
"""

import resource
import subprocess
import sys
import tempfile
import time

ROWS = [
    ("f32", "f32", False, False),
    ("nf4, f32", "f32", True, False),
    ("nf4, f32, checkpointing", "f32", True, True),
    ("nf4, bf16", "bf16", True, False),
    ("nf4, bf16, checkpointing", "bf16", True, True),
]
BATCH, LENGTH = 2, 256


def save(folder: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, rope_theta=100000.0, rms_norm_eps=1e-5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def steps(folder: str, threads: int, count: int, kind: str, nf4: bool, checkpointing: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[kind]
    options = {}
    if nf4:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map="cpu", **options)
    if nf4:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    tokens = torch.randint(0, 49000, (BATCH, LENGTH))
    cpu = wall = float("inf")
    for _ in range(count):
        before = time.process_time(), time.perf_counter()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        cpu = min(cpu, time.process_time() - before[0])
        wall = min(wall, time.perf_counter() - before[1])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{cpu:8.2f} {wall:8.2f} {BATCH * LENGTH / wall:10.0f} {memory:8.2f}")


def main() -> None:
    threads = sys.argv[1] if len(sys.argv) > 1 else "1"
    count = sys.argv[2] if len(sys.argv) > 2 else "4"
    print(f"{'':26}{'CPU s':>8} {'wall s':>8} {'tokens/s':>10} {'GB':>8}   {threads} thread(s), best of {count}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "save", folder], check=True, capture_output=True)
        for name, kind, nf4, checkpointing in ROWS:
            row = [folder, threads, count, kind, str(int(nf4)), str(int(checkpointing))]
            run = subprocess.run([sys.executable, __file__, "row", *row], capture_output=True, text=True)
            line = run.stdout.strip().splitlines()[-1:] if run.returncode == 0 else run.stderr.splitlines()[-1:]
            print(f"{name:26}{(line or ['failed'])[0]}", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["save", folder]:
            save(folder)
        case ["row", folder, threads, count, kind, nf4, checkpointing]:
            steps(folder, int(threads), int(count), kind, nf4 == "1", checkpointing == "1")
        case _:
            main()
