"""Checks what `lorakit train --report tensorboard` writes with TensorBoard's own readers: tags, steps, values and texts, of a
run that is interrupted, killed and resumed.

Usage: event_files.py LORAKIT. Needs tensorboard.
"""

import json
import math
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a tag holds of a line of metrics.jsonl.
OF_STEPS = {
    "train/loss": "loss", "train/learning_rate": "lr", "train/grad_norm": "grad_norm", "train/epoch": "epoch",
    "train/num_tokens": "tokens", "train/tokens_per_second": "tok_s", "train/memory_mb": "rss_mb",
}
OF_VALIDATIONS = {"eval/loss": "eval_loss"}
STEPS = 400


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def metrics(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def expected(output):
    """For each tag, the steps with their values."""
    rows = metrics(output)
    found = {}
    for tags, has in ((OF_STEPS, "loss"), (OF_VALIDATIONS, "eval_loss")):
        lines = [row for row in rows if row[has] is not None]
        found |= {tag: [(row["step"], f32(row[field])) for row in lines] for tag, field in tags.items()}
    return found


def check(output, killed=False):
    """Whether the files have what metrics.jsonl has; a run that was killed may not have written its last line in both."""
    found = EventAccumulator(str(output / "runs"), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    wanted = expected(output)
    assert set(found.Tags()["scalars"]) == set(wanted), found.Tags()
    for tag, values in wanted.items():
        events = found.Scalars(tag)
        assert len(values) - len(events) in ((0, 1) if killed else (0,)), f"{tag} has {len(events)} of {len(values)} values"
        assert [(event.step, event.value) for event in events] == values[:len(events)], f"{tag} differs from metrics.jsonl"
        assert all(math.isfinite(event.value) and event.wall_time > 1e9 for event in events), tag
    # As TensorBoard itself reads a folder: all files are one run.
    runs = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(output))
    runs.Reload()
    assert list(runs.Runs()) == ["runs"], list(runs.Runs())
    assert set(runs.PluginRunToTagToContent("scalars")["runs"]) == set(wanted)
    texts = runs.PluginRunToTagToContent("text")["runs"]
    assert "args/text_summary" in texts, texts
    samples = [json.loads(line) for line in (output / "samples.jsonl").read_text().splitlines()]
    shown = [(event.step, event.tensor_proto.string_val[0].decode()) for event in runs.Tensors("runs", "samples/1")]
    assert [step for step, _ in shown] == [sample["step"] for sample in samples]
    for (_, text), sample in zip(shown, samples):
        assert all(line in text for line in sample["answer"].splitlines()), text
    (settings,) = runs.Tensors("runs", "args/text_summary")
    assert (output / "run.yaml").read_text().splitlines()[-2] in settings.tensor_proto.string_val[0].decode()


def wait_for(path, run):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert run.poll() is None and time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.01)


def main():
    lorakit = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        output, prompts = pathlib.Path(folder) / "out", pathlib.Path(folder) / "prompts.txt"
        prompts.write_text("Order: 3 x lamp. Name: Ada Backus. City: Lagos. Amount due 80.\n")
        line = [lorakit, "train", "--model", ROOT / "fixtures/tiny-orders", "--data", ROOT / "fixtures/tiny-json/train.jsonl", "-o", output,
                "--max-steps", str(STEPS), "--batch-size", "2", "--seq-len", "128", "--lora-r", "4", "--val", "0.02", "--eval-every", "4",
                "--save-every", "6", "--report", "tensorboard", "--sample-prompts", prompts, "--sample-every", "50", "-t", "2", "-q", "--resume"]
        # A run that is killed may have done steps after its last checkpoint, which come again.
        for checkpoint, how, code in (("checkpoint-6", signal.SIGKILL, -9), ("checkpoint-18", signal.SIGINT, 130), ("checkpoint-30", signal.SIGKILL, -9)):
            run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            wait_for(output / checkpoint, run)
            time.sleep(0.3)
            run.send_signal(how)
            _, stderr = run.communicate()
            assert run.returncode == code, stderr.decode()
            check(output, killed=how == signal.SIGKILL)
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        check(output)
        steps = [step for step, _ in expected(output)["train/loss"]]
        assert steps == list(range(1, STEPS + 1)), steps
        files = len(list((output / "runs").iterdir()))
        assert files == 4, f"{files} event files"
    print("peers: TensorBoard reads the curves of a run that was killed and resumed")


main()
