"""What becomes of every LoRA case of PEFT's test suite? Run by hand: torch is not in CI, and it takes minutes.

    pip install torch peft transformers safetensors attrs
    python tests/peers/peft_matrix.py target/debug/lorakit [--only REGEX] [--json FILE] [--keep FOLDER]

Rebuilds the cases with tiny random models, merges each with PEFT and with lorakit, and judges lorakit's tensors by
arithmetic in f64 and its outputs by those of the base with the live adapter. Fails if a merge crashes, differs without
saying so, or is refused for a reason that `peft_matrix/reasons.py` does not know. The folder of the same name has one
module for each group of cases, `case.py` and `adapters.py` build them, `truth.py` computes and `judge.py` decides.
"""

from peft_matrix.run import main

if __name__ == "__main__":
    main()
