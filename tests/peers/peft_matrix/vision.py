"""`test_vision_models.py`: convolutions beside batch norms and a classifier that are saved whole."""

from .case import grid, lora
from .models import VISION


def cases():
    whole = {"modules_to_save": ["classifier", "normalization"]}
    residual = {
        "convolution-save": lora(target_modules=["convolution"], **whole),
        "convolution": lora(target_modules=["convolution"]),
        "dora-save": lora(target_modules=["convolution"], use_dora=True, **whole),
        "rslora": lora(target_modules=["convolution"], use_rslora=True, r=3, lora_alpha=7),
        "classifier": lora(target_modules=["convolution"], modules_to_save=["classifier"]),
    }
    patches = {
        "query-value": lora(target_modules=["q_proj", "v_proj", "query", "value"], modules_to_save=["classifier"]),
        "all-linear": lora(target_modules="all-linear"),
        "projection": lora(target_modules=["projection"]),
        "dora": lora(target_modules="all-linear", use_dora=True),
        "bias-all": lora(target_modules=["q_proj", "query"], bias="all"),
    }
    return grid("vision", {"resnet": VISION["resnet"]}, residual) + grid("vision", {"vit": VISION["vit"]}, patches)
