"""The keywords of ``from_pretrained`` that all classes share, and those that mean nothing here. Never imports torch."""

from __future__ import annotations

from typing import Any

from .checkpoint.hub import HubAccess

HARMLESS = ("low_cpu_mem_usage", "resume_download", "_fast_init")  # how the same is reached, not what

ALWAYS = {"use_fast": True, "weights_only": True, "attn_implementation": "sdpa"}  # what is so without being asked for

REFUSED = {  # what cannot be, and why; where the value asks for nothing (None, False), nothing is said
    "trust_remote_code": "no code of a checkpoint is ever run; X-CLIP needs none",
    "push_to_hub": "nothing is uploaded; save the model, then upload the folder with `hf upload`",
    "subfolder": "give the path of the folder itself",
    "variant": "only weights without a variant are read",
    "from_tf": "only PyTorch weights are read",
    "from_flax": "only PyTorch weights are read",
    "gguf_file": "only safetensors and PyTorch weights are read",
    "quantization_config": "there is no quantisation; give dtype='bfloat16' to halve the memory",
    "load_in_8bit": "there is no quantisation; give dtype='bfloat16' to halve the memory",
    "load_in_4bit": "there is no quantisation; give dtype='bfloat16' to halve the memory",
    "max_memory": "a model is loaded onto one device: give device_map='cuda:0' or 'cpu'",
    "offload_folder": "a model is loaded onto one device: give device_map='cuda:0' or 'cpu'",
    "offload_state_dict": "a model is loaded onto one device: give device_map='cuda:0' or 'cpu'",
    "proxies": "set the environment's HTTPS_PROXY",
    "mirror": "set the environment's HF_ENDPOINT",
    "key_mapping": "tensors must have X-CLIP's names",
    "state_dict": "build the model from its config and call load_state_dict",
}


def refuse(keywords: dict[str, Any]) -> None:
    """Take out of ``keywords`` what is always so or asks for nothing. Raises ValueError for what cannot be."""
    for name in list(keywords):
        value = keywords[name]
        if name in HARMLESS:
            del keywords[name]
        elif name in ALWAYS:
            if value is not None and value != ALWAYS[name]:
                raise ValueError(f"{name}={value!r} is not possible: it is always {ALWAYS[name]!r}")
            del keywords[name]
        elif name in REFUSED:
            if value is not None and value is not False:
                raise ValueError(f"{name}={value!r} is not possible: {REFUSED[name]}")
            del keywords[name]


def refuse_unknown(caller: str, keywords: dict[str, Any]) -> None:
    """Raises TypeError if a keyword is left over."""
    if keywords:
        raise TypeError(f"{caller} does not know the keyword {next(iter(keywords))!r}")


def hub_keywords(keywords: dict[str, Any]) -> tuple[str | None, HubAccess]:
    """Take the revision, and how to reach the hub, out of ``keywords``."""
    token = keywords.pop("use_auth_token", None)  # the older name
    return keywords.pop("revision", None), HubAccess(
        cache_dir=keywords.pop("cache_dir", None),
        token=keywords.pop("token", token),
        local_files_only=bool(keywords.pop("local_files_only", False)),
        force_download=bool(keywords.pop("force_download", False)),
    )
