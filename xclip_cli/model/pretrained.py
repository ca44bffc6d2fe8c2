"""What every model has besides its network: loading, saving, and what people use a PreTrainedModel for."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .base_config import USUAL, PretrainedConfig
from .checkpoint.files import CONFIG_NAME
from .checkpoint.find import Checkpoint, find_checkpoint, name_of
from .checkpoint.hub import HubAccess
from .checkpoint.saving import save_weights
from .checkpoint.weights import STRICT
from .formats import open_checkpoint
from .keywords import hub_keywords, refuse, refuse_unknown

log = logging.getLogger(__name__)


class Configured(nn.Module):
    """A network whose calls may ask for hidden states, attentions and tuples; its config says what they do not."""

    config: Any

    def _keep(self, attentions: bool | None, hidden_states: bool | None) -> dict[str, bool]:
        """What to keep of the layers: as the call says, else as the config says."""
        return {
            "output_attentions": self.config.output_attentions if attentions is None else attentions,
            "output_hidden_states": self.config.output_hidden_states if hidden_states is None else hidden_states,
        }

    def _packed(self, output: Any, return_dict: bool | None) -> Any:
        """``output``, or its tuple where that is asked for."""
        return output if (self.config.use_return_dict if return_dict is None else return_dict) else output.to_tuple()


class PretrainedModel(Configured):
    """Loading and saving, the same for the three public models."""

    config_class: ClassVar[type[PretrainedConfig]]
    prefix: ClassVar[str] = ""  # what a tower's names begin with, here and in a whole model
    main_input_name: ClassVar[str] = "input_ids"
    base_model_prefix: ClassVar[str] = "x_clip"
    supports_gradient_checkpointing: ClassVar[bool] = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise TypeError(f"{type(self).__name__} takes an {self.config_class.__name__}, got {type(config).__name__}")
        self.config = config
        self._initialised = False

    def post_init(self) -> None:
        """Set initial values, once, and what the config asks for. A subclass may call it after adding its own parts."""
        if not self._initialised and self.device.type != "meta":
            self._initialise()
        self._initialised = True
        if getattr(self.config, "gradient_checkpointing", False):
            self.gradient_checkpointing_enable()

    def _initialise(self) -> None:
        """Give every parameter its documented initial value."""
        raise NotImplementedError

    # Loading

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *model_args: Any,
        config: PretrainedConfig | str | Path | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: str | torch.device | None = None,
        device_map: Any = None,
        use_safetensors: bool | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint: a folder, a hub id (downloaded once), ``bundled`` or an authors' file, in eval mode.

        ``dtype`` (``torch_dtype`` is its older name): float32 if None, the checkpoint's own for "auto". ``device_map``:
        a device for ``device``, or "auto" for the first accelerator. ``use_safetensors``: True for only safetensors,
        False for only pickled weights. With ``strict=False``, tensors that the weights lack (your own head, say) are
        initialised, extra ones are ignored, and a warning names both; ``ignore_mismatched_sizes`` does the same for
        tensors of another shape. ``output_loading_info``: also return what was missing and so on, as a dict, and do
        not raise for it. Other keywords: ``revision``, ``cache_dir``, ``token``, ``local_files_only`` and
        ``force_download``, for the hub; parameters of a subclass; and values of the config to override.

        Weights are memory-mapped and converted where their dtype differs. Raises ModelError if the checkpoint is
        not found or does not fit, ValueError and TypeError for keywords.
        """
        refuse(kwargs)
        checkpoint = _checkpoint(name_of(pretrained_model_name_or_path), config is not None, *hub_keywords(kwargs))
        opened = open_checkpoint(checkpoint)
        if config is None:
            config = opened.config_of(cls.config_class)
        elif not isinstance(config, PretrainedConfig):
            config = cls.config_class.from_pretrained(config)
        own = {key: kwargs.pop(key) for key in list(kwargs) if key in inspect.signature(cls).parameters}
        whole: Any = _overridden(config, kwargs, cls.__name__)
        tolerated = _tolerated(strict, output_loading_info, ignore_mismatched_sizes)
        weights = opened.weights(whole, use_safetensors)
        placed = _dtype(torch_dtype if dtype is None else dtype, whole, weights.dtype), _device(device, device_map)
        with torch.device("cpu" if tolerated else "meta"):  # what is not loaded needs its initial value
            model: Any = cls(whole, *model_args, **own)
        info = weights.load(model, *placed, tolerated=tolerated)
        if text := info.describe():
            log.warning("%s: %s", checkpoint.name, text)
        if tolerated:
            model = model.to(*reversed(placed))
        return (model.eval(), info.as_dict()) if output_loading_info else model.eval()

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        config: Any,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> Self:
        """Load the weights of a checkpoint whose config has been read.

        Parameters whose names are not ``wanted`` are not read and stay on the meta device. Raises ModelError.
        """
        weights = open_checkpoint(checkpoint).weights(config)
        with torch.device("meta"):
            model = cls(config)
        weights.load(model, dtype, device, wanted)
        return model.eval()

    # Saving

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        save_function: Callable[..., Any] = torch.save,
        push_to_hub: bool = False,
        max_shard_size: int | str = "10GB",
        safe_serialization: bool = True,
    ) -> None:
        """Write ``config.json`` and the weights, which the Hugging Face library loads too.

        Weights are ``model.safetensors``, or several where they are larger than ``max_shard_size`` (bytes, or such as
        "500MB"); with ``safe_serialization=False`` they are ``pytorch_model.bin``, written by ``save_function``.
        ``state_dict`` is saved in place of the model's own. With ``is_main_process=False`` nothing is written.
        """
        refuse({"push_to_hub": push_to_hub})
        if not is_main_process:
            return
        dtype = str(self.dtype).removeprefix("torch.")
        self.config.extra |= {"architectures": [type(self).__name__], "dtype": dtype, "torch_dtype": dtype}
        self.config.save_pretrained(save_directory)
        state = self.state_dict() if state_dict is None else state_dict
        save_weights(state, Path(save_directory), self.prefix, max_shard_size, safe_serialization, save_function)

    # What people use

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    @property
    def base_model(self) -> Self:
        """The model itself."""
        return self

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of parameters."""
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if (parameter.requires_grad or not only_trainable) and not (exclude_embeddings and id(parameter) in tables)
        )

    def _embeddings(self) -> tuple[nn.Module, str, Any]:
        """Where the input embeddings are: a module, their name in it, and the config that knows their size."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings; of the vision encoder, the patch embedding."""
        home, name, _ = self._embeddings()
        module: nn.Module = getattr(home, name)
        return module

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace them."""
        home, name, _ = self._embeddings()
        setattr(home, name, value)

    def get_output_embeddings(self) -> None:
        """There are none."""

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> nn.Module:
        """Resize for more tokens (their rows are initialised) or fewer; the config is updated.

        X-CLIP reads a text at its largest id: a token with a larger id than the end token's takes its place.
        """
        home, name, config = self._embeddings()
        old = getattr(home, name)
        if not isinstance(old, nn.Embedding):
            raise ValueError(f"{type(self).__name__} has no token embeddings to resize")
        count = old.num_embeddings if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of:
            count = -(-count // pad_to_multiple_of) * pad_to_multiple_of
        if count != old.num_embeddings:
            new = nn.Embedding(count, old.embedding_dim, device=old.weight.device, dtype=old.weight.dtype)
            kept = min(count, old.num_embeddings)
            with torch.no_grad():
                new.weight.normal_(std=0.02 * config.initializer_factor)
                new.weight[:kept] = old.weight[:kept]
            new.weight.requires_grad_(old.weight.requires_grad)
            setattr(home, name, new)
        config.vocab_size = count
        return self.get_input_embeddings()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether any stack of layers computes its activations twice, to save memory."""
        return any(stack.gradient_checkpointing for stack in self._stacks())

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """In training, compute the activations of each layer, or one in so many, twice rather than keep them.

        ``gradient_checkpointing_kwargs`` go to ``torch.utils.checkpoint.checkpoint``. Raises ValueError for
        ``offload``: what is kept stays where it is.
        """
        if offload:
            raise ValueError("offload=True is not possible: activations that are kept stay on the model's device")
        for stack in self._stacks():
            stack.gradient_checkpointing, stack.checkpoint_every = True, every_n_layers
            stack.checkpointing_options = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        for stack in self._stacks():
            stack.gradient_checkpointing = False

    def _stacks(self) -> list[Any]:
        return [module for module in self.modules() if hasattr(module, "gradient_checkpointing")]

    def enable_input_require_grads(self) -> None:
        """Let gradients flow through frozen embeddings, as adapters with reentrant gradient checkpointing need it."""
        self._input_hook = self.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_())

    def disable_input_require_grads(self) -> None:
        """Undo it."""
        self._input_hook.remove()


def _checkpoint(name: str, has_config: bool, revision: str | None, access: HubAccess) -> Checkpoint:
    """The checkpoint of this name; with a config at hand, also a folder of weights alone, as a Trainer leaves it."""
    folder = Path(name)
    if has_config and folder.is_dir() and not (folder / CONFIG_NAME).is_file():
        return Checkpoint(name, folder)
    return find_checkpoint(name, revision, access=access)


def _tolerated(strict: bool | None, output_loading_info: bool, ignore_mismatched_sizes: bool) -> frozenset[str]:
    """What of the weights need not fit."""
    strict = not output_loading_info if strict is None else strict
    names = STRICT if strict else frozenset({"missing", "unexpected"})
    return names | {"mismatched"} if ignore_mismatched_sizes else names


def _overridden(config: Any, values: dict[str, Any], caller: str) -> Any:
    """The config with other values. Raises TypeError for what it does not have."""
    if not values:
        return config
    known = {*config.__dataclass_fields__, *config.extra, *USUAL, "num_labels", "id2label", "label2id"}
    refuse_unknown(f"{caller}.from_pretrained", {key: value for key, value in values.items() if key not in known})
    config = copy.deepcopy(config)
    config.update(values)
    return config


def _device(device: str | torch.device | None, device_map: Any) -> torch.device:
    """One device. Raises ValueError for a map over several."""
    if isinstance(device_map, dict):
        if len(set(map(str, device_map.values()))) != 1:
            raise ValueError(f"device_map={device_map!r} is not possible: a model is loaded onto one device")
        (device_map,) = set(device_map.values())
    if device is not None and device_map is not None:
        raise ValueError("give device or device_map, not both")
    wanted = device if device_map is None else device_map
    if wanted == "auto":
        first = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if first is None else first
    if isinstance(wanted, int):
        return torch.device("cuda", wanted)
    try:
        return torch.device("cpu" if wanted is None else wanted)
    except RuntimeError as error:
        raise ValueError(f"device_map={device_map!r} is not possible: give a device, or 'auto'") from error


def _dtype(wanted: torch.dtype | str | None, config: Any, stored: Callable[[], torch.dtype]) -> torch.dtype:
    """The dtype to load in. Raises ValueError."""
    if wanted is None:
        return torch.float32
    if wanted == "auto":
        wanted = config.dtype or config.torch_dtype or stored()
    if isinstance(wanted, str):
        wanted = getattr(torch, wanted.removeprefix("torch."), None)
    if not isinstance(wanted, torch.dtype) or not wanted.is_floating_point:
        raise ValueError(f"dtype={wanted!r} is not a floating-point dtype of torch, its name, or 'auto'")
    return wanted
