"""The cases of PEFT's test suite, merged by PEFT and by lorakit. See `../peft_matrix.py`."""
