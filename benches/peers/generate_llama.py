"""llama.cpp and `lorakit generate` beside each other: a prompt, then one token after another.

    pip install llama-cpp-python numpy
    python benches/peers/generate_llama.py LORAKIT MODEL.gguf [THREADS ...]

Both read the same file with as many threads: 480 tokens of a prompt and 128 of an answer, in turns, five times; the
median counts. llama.cpp is called as `llama-bench` calls it: a batch of the prompt, then batches of one token, without
sampling; once with flash attention and once without, of which the faster counts. `lorakit` chooses its tokens and puts
them into words, and its time is the one it reports. A share of memory bandwidth is the file's bytes for each token,
against what numpy needs to add up 512 MiB with as many processes.
"""

import ctypes
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

PROMPT, ANSWER, ROUNDS = 480, 128, 5
WORDS = " and" * PROMPT


def llama(model: str, threads: int, flash: bool) -> tuple[float, float]:
    import llama_cpp as api

    quiet = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(quiet, None)
    api.llama_backend_init()
    loaded = api.llama_model_load_from_file(model.encode(), api.llama_model_default_params())
    how = api.llama_context_default_params()
    how.n_ctx, how.n_batch, how.n_ubatch = 1024, 512, 512
    how.n_threads = how.n_threads_batch = threads
    how.flash_attn_type = int(flash)
    context = api.llama_init_from_model(loaded, how)

    def decode(tokens: list[int]) -> None:
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        assert api.llama_decode(context, api.llama_batch_get_one(array, len(tokens))) == 0
        api.llama_synchronize(context)

    for _ in range(2):  # the first pass reads the file
        api.llama_memory_clear(api.llama_get_memory(context), True)
        begun = time.perf_counter()
        decode([1000 + at for at in range(PROMPT)])
        prompted = time.perf_counter()
        for at in range(ANSWER):
            decode([1000 + at])
        ended = time.perf_counter()
    return PROMPT / (prompted - begun), ANSWER / (ended - prompted)


def lorakit(binary: str, model: str, threads: int) -> tuple[float, float, int]:
    command = [binary, "generate", "--model", model, "--raw", "--prompt", WORDS, "--max-tokens", str(ANSWER)]
    run = subprocess.Popen([*command, "-t", str(threads), "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    told = run.stdout.read()
    _, status, used = os.wait4(run.pid, 0)
    assert status == 0
    speed = json.loads(told)["speed"]
    assert speed["tokens"] == ANSWER, f"the answer ends after {speed['tokens']} tokens: try another model"
    answer = speed["seconds"] - speed["prompt_seconds"]
    return speed["prompt_tokens"] / speed["prompt_seconds"], ANSWER / answer, used.ru_maxrss


def peer(model: str, threads: int, flash: int) -> list[float]:
    child = [sys.executable, __file__, "--llama", model, str(threads), str(flash)]
    return json.loads(subprocess.run(child, check=True, capture_output=True).stdout)


def bandwidth(threads: int) -> float:
    with multiprocessing.Pool(threads) as pool:
        return sum(pool.map(read, range(threads), chunksize=1))


def read(_: int) -> float:
    import numpy

    memory = numpy.ones(1 << 26)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        memory.sum()
        times.append(time.perf_counter() - begun)
    return memory.nbytes / min(times) / 1e9


def main() -> None:
    binary, model = sys.argv[1:3]
    size = os.path.getsize(model)
    for threads in map(int, sys.argv[3:] or ["1"]):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(lorakit(binary, model, threads))
            theirs.append([max(both) for both in zip(peer(model, threads, 0), peer(model, threads, 1))])
        prompt, answer = (statistics.median(run[at] for run in ours) for at in range(2))
        their_prompt, their_answer = (statistics.median(run[at] for run in theirs) for at in range(2))
        memory = bandwidth(threads)
        print(f"{os.path.basename(model)}, {threads} threads; reading memory: {memory:.1f} GB/s")
        print(f"  prompt  {prompt:6.1f} tokens/s, llama.cpp {their_prompt:6.1f}: {prompt / their_prompt:.2f}x")
        print(
            f"  answer  {answer:6.1f} tokens/s, llama.cpp {their_answer:6.1f}: {answer / their_answer:.2f}x; "
            f"{answer * size / 1e9:.1f} GB/s, {100 * answer * size / 1e9 / memory:.0f} % of memory"
        )
        print(f"  peak memory {ours[-1][2] / 1024:.0f} MiB, the file {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    if sys.argv[1] == "--llama":
        print(json.dumps(llama(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1")))
    else:
        main()
