"""CLIP's byte-pair tokenizer over the ``tokenizers`` library, from the files of a Hugging Face checkpoint.

Of a ``tokenizer.json`` only the vocabulary and the merges are used. Its other parts are programs: a regular expression
can take for ever, a normaliser can make gigabytes of one letter, and the library ends in a panic on some. They must be
CLIP's, which are built here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from ..errors import ModelError
from ..text import one_line
from .batch import BatchFeature, check_kind
from .checkpoint.files import read_json, read_text
from .keywords import hub_keywords, refuse, refuse_unknown

START = "<|startoftext|>"
END = "<|endoftext|>"  # also the padding and the unknown token
END_OF_WORD = "</w>"
TOKENIZER_NAME = "tokenizer.json"
CLIP_MAX_LENGTH = 77

PADDINGS = (True, False, None, "longest", "max_length", "do_not_pad")
TRUNCATIONS = (True, False, None, "longest_first", "only_first", "do_not_truncate")
SIDES = ("right", "left")
SETTINGS = ("model_max_length", "pad_token", "padding_side", "truncation_side", "clean_up_tokenization_spaces")

MAX_ID = 1 << 20  # of a token
MAX_TOKEN = 1000  # characters

# Contractions, words, single digits, runs of anything else: the pattern of the original tokenizer.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|" + _WORDS

# What a tokenizer.json of CLIP says of its parts, in every version: the pattern with or without the special tokens.
_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ],
}
_SPLITS = [
    {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    for pattern in (_PIECES, _WORDS)
]


class CLIPTokenizer:
    """Texts → ``input_ids`` between start and end token, and back.

    X-CLIP reads a text at its largest id, so the end token must have the largest id of the vocabulary.
    """

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]
    bos_token: ClassVar[str] = START
    eos_token: ClassVar[str] = END
    unk_token: ClassVar[str] = END
    is_fast: ClassVar[bool] = True

    def __init__(
        self,
        backend: Tokenizer,
        model_max_length: int = CLIP_MAX_LENGTH,
        pad_token: str = END,
        padding_side: str = "right",
        truncation_side: str = "right",
        clean_up_tokenization_spaces: bool = False,
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.model_max_length = model_max_length
        self.pad_token = pad_token
        self.padding_side = _side(padding_side)
        self.truncation_side = _side(truncation_side)
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.bos_token_id = self._special_id(START)
        self.eos_token_id = self.unk_token_id = self._special_id(END)
        self.pad_token_id = self._special_id(pad_token)

    def _special_id(self, token: str) -> int:
        token_id = self.backend.token_to_id(token) if _is_text(token) else None
        if token_id is None:
            raise ModelError(f"the tokenizer lacks the token {one_line(token)}: it is not CLIP's")
        return token_id

    @classmethod
    def from_vocabulary(
        cls,
        vocabulary: dict[str, int],
        merges: Sequence[tuple[str, str]],
        model_max_length: int = CLIP_MAX_LENGTH,
        pad_token: str = END,
        **settings: Any,
    ) -> Self:
        """Build from a byte-pair vocabulary (token → id) and its merges, in order; ``settings`` as for the class."""
        backend = Tokenizer(
            BPE(
                vocab=vocabulary,
                merges=list(merges),
                continuing_subword_prefix="",
                end_of_word_suffix=END_OF_WORD,
                fuse_unk=False,
                unk_token=END,
            )
        )
        backend.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.RobertaProcessing(
            (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
        )
        backend.add_special_tokens([START, END])
        return cls(backend, model_max_length, pad_token, **settings)

    @classmethod
    def from_folder(cls, folder: Path, **kwargs: Any) -> Self:
        """Read a checkpoint folder's ``tokenizer.json``, else ``vocab.json`` and ``merges.txt``. Raises ModelError.

        ``kwargs``: settings of the class, in place of those of ``tokenizer_config.json``.
        """
        refuse_unknown(cls.__name__, {name: value for name, value in kwargs.items() if name not in SETTINGS})
        settings = _settings({**read_json(folder / "tokenizer_config.json"), **kwargs})
        path = folder / TOKENIZER_NAME
        if path.is_file():
            vocabulary, merges = _parse_tokenizer(read_json(path), path)
            return cls.from_vocabulary(vocabulary, merges, **settings)
        vocabulary_path, merges_path = folder / "vocab.json", folder / "merges.txt"
        if not (vocabulary_path.is_file() and merges_path.is_file()):
            raise ModelError(f"no tokenizer in {folder}: it needs {TOKENIZER_NAME}, or vocab.json and merges.txt")
        lines = read_text(merges_path).splitlines()
        pairs = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
        vocabulary, merges = _checked(read_json(vocabulary_path), pairs, f"{vocabulary_path} and {merges_path}")
        return cls.from_vocabulary(vocabulary, merges, **settings)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Read the tokenizer of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError.

        ``kwargs``: how to reach the hub (revision, cache_dir, token, local_files_only, force_download), and settings of
        the class to override.
        """
        from .checkpoint.find import find_folder, name_of

        refuse(kwargs)
        return cls.from_folder(find_folder(name_of(pretrained_model_name_or_path), *hub_keywords(kwargs)), **kwargs)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False) -> tuple[str, ...]:
        """Write ``tokenizer.json``, ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` → their paths.

        Every version of the Hugging Face library reads them: merges are strings, as in 2023.
        """
        refuse({"push_to_hub": push_to_hub})
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        values = json.loads(self.backend.to_str())
        model = values["model"]
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        model["merges"] = merges
        settings = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.model_max_length,
            "bos_token": START,
            "eos_token": END,
            "pad_token": self.pad_token,
            "unk_token": END,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
        }
        texts = {
            TOKENIZER_NAME: json.dumps(values, indent=2, ensure_ascii=False),
            "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *merges]),
            "tokenizer_config.json": json.dumps(settings, indent=2),
        }
        for name, text in texts.items():
            (folder / name).write_text(text + "\n", encoding="utf-8")
        return tuple(str(folder / name) for name in texts)

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        verbose: bool = True,
    ) -> BatchFeature:
        """Texts → ``input_ids`` and ``attention_mask``: of a list a list of ids per text, of a string its ids alone.

        ``padding``: True or "longest" fills up to the longest text, "max_length" to ``max_length`` (the model's limit
        if None), both to a multiple of ``pad_to_multiple_of``. ``truncation`` cuts texts to ``max_length`` and keeps
        the end token; where neither it nor padding is asked for, a ``max_length`` asks for it. With
        ``is_split_into_words`` a text is a list of words. ``return_tensors``: "pt", "np", or None for lists.
        ``verbose`` changes nothing: nothing is said. Raises ValueError on an unknown value, or for tensors of texts of
        different lengths, TypeError on what is not text.
        """
        check_kind(return_tensors)
        limit = self._limit(padding, truncation, max_length, pad_to_multiple_of)
        single = isinstance(text, str) or (is_split_into_words and bool(text) and isinstance(text[0], str))
        ids = self._encoded([text] if single else text, add_special_tokens, is_split_into_words)
        if limit is not None:
            ids = [self._cut(row, limit, add_special_tokens) for row in ids]
        features = BatchFeature(input_ids=ids, attention_mask=[[1] * len(row) for row in ids])
        if return_special_tokens_mask:
            special = {self.bos_token_id, self.eos_token_id}
            features["special_tokens_mask"] = [
                [int(token in special and add_special_tokens) for token in row] for row in ids
            ]
        self._pad(features, padding, max_length, pad_to_multiple_of, padding_side)
        if return_length:
            features["length"] = [len(row) for row in features["input_ids"]]
        if return_attention_mask is False:
            del features["attention_mask"]
        if single and return_tensors is None:
            return BatchFeature({name: rows[0] for name, rows in features.items()})
        return features.convert_to_tensors(return_tensors)

    def _limit(
        self, padding: Any, truncation: Any, max_length: int | None, pad_to_multiple_of: int | None
    ) -> int | None:
        """What to cut texts to, if they are to be cut. Raises ValueError on an unknown padding or truncation."""
        if padding not in PADDINGS:
            raise ValueError(f"padding {padding!r} is not one of True, False, 'longest', 'max_length', 'do_not_pad'")
        if truncation not in TRUNCATIONS:
            raise ValueError(
                f"truncation {truncation!r} is not one of True, False, 'longest_first', 'only_first', 'do_not_truncate'"
            )
        if truncation is None:
            truncation = max_length is not None and padding in (False, None)
        if truncation in (False, "do_not_truncate"):
            return None
        pads = padding not in (False, None, "do_not_pad")
        if pads and pad_to_multiple_of and max_length is not None and max_length % pad_to_multiple_of:
            raise ValueError(f"max_length {max_length} is not a multiple of pad_to_multiple_of {pad_to_multiple_of}")
        return self.model_max_length if max_length is None else max_length

    def _encoded(self, texts: Any, add_special_tokens: bool, is_split_into_words: bool = False) -> list[list[int]]:
        texts = list(texts)
        of_words = [word for text in texts for word in text] if is_split_into_words else texts
        if faulty := [value for value in of_words if not isinstance(value, str)]:
            raise TypeError(f"text must be a string or a list of strings, got a {type(faulty[0]).__name__} in it")
        encodings = self.backend.encode_batch(
            texts, is_pretokenized=is_split_into_words, add_special_tokens=add_special_tokens
        )
        return [encoding.ids for encoding in encodings]

    def _cut(self, row: list[int], limit: int, special: bool) -> list[int]:
        """At most ``limit`` ids, start and end kept."""
        if len(row) <= limit:
            return row
        if limit < 2 * special:
            raise ValueError(f"max_length {limit} leaves no room for the start and end tokens")
        start, end = ([self.bos_token_id], [self.eos_token_id]) if special else ([], [])
        inner, room = row[len(start) : len(row) - len(end)], limit - len(start) - len(end)
        return start + (inner[:room] if self.truncation_side == "right" else inner[len(inner) - room :]) + end

    def _pad(
        self,
        features: dict[str, Any],
        padding: Any,
        max_length: int | None,
        multiple: int | None,
        side: str | None,
    ) -> None:
        """Fill up every row, in place."""
        if padding in (False, None, "do_not_pad"):
            return
        side = self.padding_side if side is None else _side(side)
        length = max((len(row) for row in features["input_ids"]), default=0)
        if padding == "max_length":
            length = self.model_max_length if max_length is None else max_length
        if multiple:
            length = -(-length // multiple) * multiple
        filling = {"input_ids": self.pad_token_id, "attention_mask": 0, "special_tokens_mask": 1}
        for name in features.keys() & filling.keys():
            rows = [(row, [filling[name]] * (length - len(row))) for row in features[name]]
            features[name] = [row + more if side == "right" else more + row for row, more in rows]

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchFeature:
        """Fill up what ``__call__`` has made of one text or several, or a list of those of one, as loaders have it."""
        self._limit(padding, False, max_length, pad_to_multiple_of)
        if not isinstance(encoded_inputs, Mapping):
            encoded_inputs = {name: [each[name] for each in encoded_inputs] for name in encoded_inputs[0]}
        columns = {name: _listed(values) for name, values in encoded_inputs.items()}
        single = bool(columns["input_ids"]) and not isinstance(columns["input_ids"][0], list)
        features = BatchFeature({name: [values] if single else values for name, values in columns.items()})
        if return_attention_mask is not False:
            features.setdefault("attention_mask", [[1] * len(row) for row in features["input_ids"]])
        self._pad(features, padding, max_length, pad_to_multiple_of, padding_side)
        if single and return_tensors is None:
            return BatchFeature({name: rows[0] for name, rows in features.items()})
        return features.convert_to_tensors(return_tensors)

    encode_plus = batch_encode_plus = __call__  # older names

    def encode(self, text: str, **kwargs: Any) -> Any:
        """The ids of one text; ``kwargs`` as for ``__call__``."""
        return self(text, **kwargs)["input_ids"]

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text."""
        tokens: list[str] = self.backend.encode(text, add_special_tokens=add_special_tokens).tokens
        return tokens

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """A token's id, or those of several; what is no token has that of the end token."""
        if isinstance(tokens, str):
            found = self.backend.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or those of several."""
        if isinstance(ids, int):
            return self.backend.id_to_token(ids)
        special = set(self.all_special_ids) if skip_special_tokens else set()
        return [self.backend.id_to_token(number) for number in _listed(ids) if number not in special]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Tokens → text, in which their ends of words are still to be seen."""
        return str(self.backend.decoder.decode(list(tokens)))

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Ids of one text → text; of several → texts.

        ``clean_up_tokenization_spaces`` takes the spaces before punctuation away; if None, as the checkpoint says.
        """
        ids = _listed(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if ids and isinstance(ids[0], list):
            return self.batch_decode(ids, skip_special_tokens, clean_up_tokenization_spaces)
        decoded: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)
        text = decoded.replace(END_OF_WORD, " ").strip()
        cleans = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        for spaced in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're") if cleans else ():
            text = text.replace(spaced, spaced.strip())
        return text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """Ids of several texts → texts."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in _listed(sequences)]

    @property
    def all_special_tokens(self) -> list[str]:
        """Start, end, and what pads."""
        return list(dict.fromkeys([START, END, self.pad_token]))

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        return list(dict.fromkeys([self.bos_token_id, self.eos_token_id, self.pad_token_id]))

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """What the special tokens are for."""
        return {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": self.pad_token}

    def get_vocab(self) -> dict[str, int]:
        """Every token's id."""
        vocabulary: dict[str, int] = self.backend.get_vocab()
        return vocabulary

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self)

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())


class CLIPTokenizerFast(CLIPTokenizer):
    """The same: this tokenizer is the fast one."""


def _side(side: Any) -> str:
    if side not in SIDES:
        raise ValueError(f"a side is {side!r}, it must be one of 'right', 'left'")
    return str(side)


def _listed(values: Any) -> Any:
    """A tensor's or array's numbers, or lists that hold some, as lists."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_listed(value) for value in values] if isinstance(values, list | tuple) else values


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the tokenizer knows, of a ``tokenizer_config.json``."""
    pad_token = values.get("pad_token") or END
    if isinstance(pad_token, dict):  # a serialised AddedToken
        pad_token = pad_token.get("content", END)
    limit = values.get("model_max_length", CLIP_MAX_LENGTH)
    known = {name: values[name] for name in SETTINGS if values.get(name) is not None}
    return {
        **known,
        "pad_token": str(pad_token),
        "model_max_length": int(limit) if isinstance(limit, int | float) and 2 <= limit < 1e6 else CLIP_MAX_LENGTH,
    }


def _parse_tokenizer(values: dict[str, Any], path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges of a ``tokenizer.json``. Raises ModelError if its other parts are not CLIP's."""
    splitter, model = values.get("pre_tokenizer"), values.get("model")
    parts = splitter.get("pretokenizers") if isinstance(splitter, dict) else None
    if not isinstance(parts, list) or len(parts) != 2 or parts[0] not in _SPLITS or not _is_byte_level(parts[1]):
        raise ModelError(f"{path} is not CLIP's: its pre_tokenizer splits texts differently")
    if values.get("normalizer") != _NORMALIZER:
        raise ModelError(f"{path} is not CLIP's: its normalizer changes texts differently")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("dropout"):
        raise ModelError(f"{path} is not CLIP's: its model is not a plain byte-pair encoding (BPE)")
    if model.get("end_of_word_suffix") != END_OF_WORD or model.get("continuing_subword_prefix"):
        raise ModelError(f"{path} is not CLIP's: its words do not end in {END_OF_WORD}")
    pairs = model.get("merges")
    if isinstance(pairs, list):  # "a b" until 2024, ["a", "b"] since
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]
    vocabulary, merges = _checked(model.get("vocab"), pairs, str(path))
    added = values.get("added_tokens") or []
    for token in added if isinstance(added, list) else [added]:
        if not isinstance(token, dict) or vocabulary.get(str(token.get("content"))) != token.get("id"):
            raise ModelError(f"{path} is not CLIP's: it adds the token {one_line(token)}, which its vocabulary lacks")
    return vocabulary, merges


def _is_byte_level(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") != "ByteLevel":
        return False
    return part.get("add_prefix_space") is False and part.get("use_regex", True) is True


def _checked(vocabulary: Any, merges: Any, source: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The same, proved to be a vocabulary and its merges; the library would panic on some that are not."""
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise ModelError(f"cannot read {source}: it needs a vocabulary (token to id) and a list of merges")
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < MAX_ID or len(token) > MAX_TOKEN or not _is_text(token):
            raise ModelError(
                f"cannot read {source}: the token {one_line(repr(token))} has the id {one_line(repr(number))}"
            )
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ModelError(f"cannot read {source}: two tokens of its vocabulary have the same id")
    if absent := [token for token in (START, END) if token not in vocabulary]:
        raise ModelError(f"the tokenizer lacks the token {absent[0]}: it is not CLIP's")
    for pair in merges:
        whole = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not whole or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise ModelError(f"cannot read {source}: the merge {one_line(repr(pair))} is not of two of its tokens")
    return vocabulary, [(first, second) for first, second in merges]


def _is_text(token: str) -> bool:
    """Whether it is without lone surrogates."""
    return token.isascii() or not any("\ud800" <= character <= "\udfff" for character in token)
