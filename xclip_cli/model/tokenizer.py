"""CLIP's byte-pair tokenizer over the ``tokenizers`` library, from the files of a Hugging Face checkpoint.

Of a ``tokenizer.json`` only the vocabulary and the merges are used. Its other parts are programs: a regular expression
can take for ever, a normaliser can make gigabytes of one letter, and the library ends in a panic on some. They must be
CLIP's, which are built here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from ..errors import ModelError
from ..text import one_line
from .checkpoint.files import read_json, read_text

START = "<|startoftext|>"
END = "<|endoftext|>"  # also the padding and the unknown token
END_OF_WORD = "</w>"
TOKENIZER_NAME = "tokenizer.json"
CLIP_MAX_LENGTH = 77

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

    def __init__(self, backend: Tokenizer, model_max_length: int = CLIP_MAX_LENGTH, pad_token: str = END) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.model_max_length = model_max_length
        self.pad_token = pad_token
        self.bos_token_id = self._special_id(START)
        self.eos_token_id = self._special_id(END)
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
    ) -> Self:
        """Build from a byte-pair vocabulary (token → id) and its merges, in order."""
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
        return cls(backend, model_max_length, pad_token)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read a checkpoint folder's ``tokenizer.json``, else ``vocab.json`` and ``merges.txt``. Raises ModelError."""
        settings = read_json(folder / "tokenizer_config.json")
        pad_token = settings.get("pad_token") or END
        if isinstance(pad_token, dict):  # a serialised AddedToken
            pad_token = pad_token.get("content", END)
        pad_token = str(pad_token)
        limit = settings.get("model_max_length", CLIP_MAX_LENGTH)
        model_max_length = int(limit) if isinstance(limit, int | float) and 2 <= limit < 1e6 else CLIP_MAX_LENGTH
        path = folder / TOKENIZER_NAME
        if path.is_file():
            vocabulary, merges = _parse_tokenizer(read_json(path), path)
            return cls.from_vocabulary(vocabulary, merges, model_max_length, pad_token)
        vocabulary_path, merges_path = folder / "vocab.json", folder / "merges.txt"
        if not (vocabulary_path.is_file() and merges_path.is_file()):
            raise ModelError(f"no tokenizer in {folder}: it needs {TOKENIZER_NAME}, or vocab.json and merges.txt")
        lines = read_text(merges_path).splitlines()
        pairs = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
        vocabulary, merges = _checked(read_json(vocabulary_path), pairs, f"{vocabulary_path} and {merges_path}")
        return cls.from_vocabulary(vocabulary, merges, model_max_length, pad_token)

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """Read the tokenizer of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError."""
        from .checkpoint.find import find_folder

        return cls.from_folder(find_folder(str(name), revision))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / TOKENIZER_NAME))
        settings = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.model_max_length,
            "bos_token": START,
            "eos_token": END,
            "pad_token": self.pad_token,
            "unk_token": END,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def __call__(
        self,
        text: str | Sequence[str],
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
    ) -> dict[str, list[list[int]]]:
        """Texts → ``input_ids`` and ``attention_mask``, a list of ids a text.

        ``padding``: True or "longest" fills up to the longest text, "max_length" to ``max_length`` (the model's limit
        if None). ``truncation`` cuts texts to ``max_length`` and keeps the end token. Raises ValueError on an unknown
        padding or truncation, TypeError on what is not text.
        """
        if padding not in (True, False, "longest", "max_length", "do_not_pad"):
            raise ValueError(f"padding {padding!r} is not one of True, False, 'longest', 'max_length', 'do_not_pad'")
        if truncation not in (True, False, "longest_first", "only_first", "do_not_truncate"):
            raise ValueError(
                f"truncation {truncation!r} is not one of True, False, 'longest_first', 'only_first', 'do_not_truncate'"
            )
        texts = [text] if isinstance(text, str) else list(text)
        if faulty := [value for value in texts if not isinstance(value, str)]:
            raise TypeError(f"text must be a string or a list of strings, got a {type(faulty[0]).__name__} in it")
        limit = self.model_max_length if max_length is None else max_length
        ids = [encoding.ids for encoding in self.backend.encode_batch(texts)]
        if truncation not in (False, "do_not_truncate"):
            ids = [row if len(row) <= limit else [*row[: limit - 1], self.eos_token_id] for row in ids]
        mask = [[1] * len(row) for row in ids]
        if padding not in (False, "do_not_pad"):
            length = limit if padding == "max_length" else max(map(len, ids), default=0)
            mask = [row + [0] * (length - len(row)) for row in mask]
            ids = [row + [self.pad_token_id] * (length - len(row)) for row in ids]
        return {"input_ids": ids, "attention_mask": mask}

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """Ids of one text → text."""
        text: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)
        return text.replace(END_OF_WORD, " ").strip()

    def batch_decode(self, batch: Any, skip_special_tokens: bool = False) -> list[str]:
        """Ids of several texts → texts."""
        return [self.decode(ids, skip_special_tokens) for ids in batch]

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())


def _parse_tokenizer(values: dict[str, Any], path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges of a ``tokenizer.json``. Raises ModelError where its other parts are not CLIP's."""
    splitter, model = values.get("pre_tokenizer"), values.get("model")
    parts = splitter.get("pretokenizers") if isinstance(splitter, dict) else None
    if not isinstance(parts, list) or len(parts) != 2 or parts[0] not in _SPLITS or not _is_byte_level(parts[1]):
        raise ModelError(f"{path} is not CLIP's: its pre_tokenizer splits texts in another way")
    if values.get("normalizer") != _NORMALIZER:
        raise ModelError(f"{path} is not CLIP's: its normalizer changes texts in another way")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("dropout"):
        raise ModelError(f"{path} is not CLIP's: its model is no plain byte-pair encoding (BPE)")
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
