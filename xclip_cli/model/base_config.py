"""What the configs of X-CLIP have in common: keywords kept as attributes, files and JSON. Never imports torch."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from ..errors import ModelError
from ..text import one_line
from .checkpoint.files import CONFIG_NAME, read_json
from .keywords import hub_keywords, refuse

_Config = TypeVar("_Config", bound="PretrainedConfig")

# What any config of transformers answers to. Written to a file only where it was given.
USUAL: dict[str, Any] = {
    "architectures": None,
    "dtype": None,
    "torch_dtype": None,
    "torchscript": False,
    "problem_type": None,
    "is_encoder_decoder": False,
    "tie_word_embeddings": True,
    "name_or_path": "",
}


def keeps_unknown(cls: type[_Config]) -> type[_Config]:
    """Lets a config take any keyword: those that its ``__init__`` does not know are kept in ``extra``."""
    known_init: Any = cls.__init__
    known = inspect.signature(known_init).parameters

    @wraps(known_init)
    def __init__(self: PretrainedConfig, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        unknown = {name: kwargs.pop(name) for name in list(kwargs) if name not in known}
        known_init(self, *args, **kwargs)
        self.extra.update(unknown)

    cls.__init__ = __init__  # type: ignore[method-assign]
    return cls


@dataclass(kw_only=True)
class PretrainedConfig:
    """What the three configs share. ``extra`` keeps keywords and keys of a ``config.json`` that are not parameters.

    They are read and set as attributes, but never in place of one that the class has, and are saved with the rest.
    """

    model_type: ClassVar[str]
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["text_model_output", "vision_model_output", "mit_output"]

    output_attentions: bool = False  # return attentions when a call does not say
    output_hidden_states: bool = False  # return every layer's output when a call does not say
    return_dict: bool = True  # False: tuples instead of output objects
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("output_attentions", "output_hidden_states", "return_dict"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be true or false")

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        if name in USUAL:
            return USUAL[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "extra":  # a copy, with what a subclass has set before it
            value = {**self.__dict__.get("extra", {}), **value}
        if name in self.__dataclass_fields__ or hasattr(type(self), name) or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.__dict__.setdefault("extra", {})[name] = value

    @property
    def stacks(self) -> dict[str, int]:
        """What the stacks of layers are called among the weights, and how many layers each has."""
        raise NotImplementedError

    @property
    def use_return_dict(self) -> bool:
        """Whether outputs are objects where a call does not say."""
        return self.return_dict and not self.torchscript

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the classes of a head of your own."""
        names = self.extra.get("id2label") or {i: f"LABEL_{i}" for i in range(self.extra.get("num_labels", 2))}
        return {int(number): name for number, name in names.items()}

    @id2label.setter
    def id2label(self, names: dict[int, str]) -> None:
        self.extra["id2label"] = dict(names)
        self.extra.pop("num_labels", None)

    @property
    def label2id(self) -> dict[str, int]:
        """The same the other way round."""
        return self.extra.get("label2id") or {name: number for number, name in self.id2label.items()}

    @label2id.setter
    def label2id(self, numbers: dict[str, int]) -> None:
        self.extra["label2id"] = dict(numbers)

    @property
    def num_labels(self) -> int:
        """How many classes a head of your own has."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        for name in ("id2label", "label2id"):
            self.extra.pop(name, None)
        self.extra["num_labels"] = count

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Build from the JSON form; ``kwargs`` override it. Raises ValueError if a value makes no model.

        With ``return_unused_kwargs`` also a dict of the ``kwargs`` that are not this config's; else they are kept.
        """
        known = cls._parameters()
        unused = {
            name: kwargs.pop(name)
            for name in list(kwargs)
            if return_unused_kwargs and name not in known and name not in config_dict and not hasattr(cls, name)
        }
        values = {**config_dict, **kwargs}
        accepted = {key: value for key, value in values.items() if key in known}
        extra = {key: value for key, value in values.items() if key not in known | {"model_type"}}
        config = cls(**accepted, extra=extra)
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def _parameters(cls) -> set[str]:
        """What ``__init__`` knows, also of the classes below a subclass of your own."""
        configs = [c for c in cls.__mro__ if issubclass(c, PretrainedConfig)]
        parameters = [p for c in configs for p in inspect.signature(c).parameters.values()]
        return {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"extra"}

    def to_dict(self) -> dict[str, Any]:
        """As plain values, unknown keys included."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return {**self.extra, **own, "model_type": self.model_type}

    def to_diff_dict(self) -> dict[str, Any]:
        """Less what is the same for every config of every model: the class's own values, and what else was given."""
        usual = {f.name: f.default for f in fields(PretrainedConfig) if f.name != "extra"}
        usual["dropout"] = 0.0  # which configs had in 2022 alone
        return {key: value for key, value in self.to_dict().items() if key not in usual or value != usual[key]}

    def to_json_string(self, use_diff: bool = True) -> str:
        """As JSON: ``to_diff_dict``, or ``to_dict``. Raises ValueError if a value has no JSON form."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(values, indent=2, sort_keys=True, default=_plain) + "\n"

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        """Write ``to_json_string``."""
        Path(json_file_path).write_text(self.to_json_string(use_diff), "utf-8")

    def update(self, config_dict: dict[str, Any]) -> None:
        """Set attributes. Raises ValueError if a value makes no model; nothing is changed then."""
        checked = type(self).from_dict({**self.to_dict(), **config_dict})
        self.__dict__.update(checked.__dict__)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the ``config.json`` of a checkpoint says, and the ``kwargs`` that were not about finding it."""
        return read_json(cls._find(pretrained_model_name_or_path, kwargs) / CONFIG_NAME, required=True), kwargs

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Read the config of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError.

        ``kwargs``: revision, cache_dir, token, local_files_only, force_download; and values to override, as for
        ``from_dict``.
        """
        folder = cls._find(pretrained_model_name_or_path, kwargs)
        return cls.from_folder(folder, **kwargs)

    @classmethod
    def _find(cls, name: str | Path, kwargs: dict[str, Any]) -> Path:
        """The folder to read from; takes out of ``kwargs`` what tells where it is."""
        from .checkpoint.find import find_folder, name_of

        if Path(name).name == CONFIG_NAME and Path(name).is_file():
            name = Path(name).parent
        refuse(kwargs)
        return find_folder(name_of(name), *hub_keywords(kwargs))

    @classmethod
    def from_folder(cls, folder: Path, **kwargs: Any) -> Any:
        """Read ``config.json`` of a checkpoint folder; ``kwargs`` as for ``from_dict``. Raises ModelError."""
        path = folder / CONFIG_NAME
        values = read_json(path, required=True)
        try:
            return cls.from_dict(cls._own_part(values, path), **kwargs)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path} does not describe an X-CLIP model: {one_line(error)}") from error

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> Self:
        """Read a JSON file. Raises ModelError, ValueError."""
        config: Self = cls.from_dict(read_json(Path(json_file), required=True))
        return config

    @classmethod
    def _own_part(cls, values: dict[str, Any], path: Path) -> dict[str, Any]:
        """The part of a ``config.json`` that describes this class."""
        if values.get("model_type") == cls.model_type:
            return values
        raise ModelError(
            f"{path} is of model_type {one_line(repr(values.get('model_type')))}, not {cls.model_type!r}: only X-CLIP "
            "checkpoints can be loaded"
        )

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False) -> None:
        """Write ``config.json`` into a folder, which is made if it is missing."""
        refuse({"push_to_hub": push_to_hub})
        text = self.to_json_string(use_diff=False)
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(text, "utf-8")


def _plain(value: Any) -> str:
    """A value that JSON has no form for: torch's dtypes are known by name."""
    if str(value).startswith("torch."):
        return str(value).removeprefix("torch.")
    raise ValueError(f"config.json cannot hold {value!r}: give the name of a known activation, or a plain value")
