"""The tokenizer against CLIPTokenizer of transformers, over the same vocabulary."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from reference import END, START
from tokenizers import Tokenizer

from xclip_cli.errors import ModelError
from xclip_cli.model import CLIPTokenizer

LABELS = reference.shipped_labels()

# Ranges of characters that tokenizers stumble over, and strings in which rules meet.
RANGES = {
    "ascii": (0x20, 0x7F),
    "control": (0x00, 0x20),
    "latin": (0x80, 0x250),
    "combining marks": (0x300, 0x370),
    "greek and cyrillic": (0x370, 0x530),
    "hebrew and arabic": (0x590, 0x700),
    "devanagari to thai": (0x900, 0xE80),
    "spaces and punctuation": (0x2000, 0x2070),
    "super- and subscripts, letterlike, roman numerals": (0x2070, 0x2190),
    "cjk": (0x3000, 0x3100),
    "han": (0x4E00, 0x4F00),
    "hangul": (0xAC00, 0xAD00),
    "hangul parts": (0x1100, 0x1200),
    "private use": (0xE000, 0xE010),
    "presentation forms": (0xFB00, 0xFB50),
    "variation selectors, byte order mark": (0xFE00, 0xFF00),
    "full width": (0xFF00, 0xFFF0),
    "mathematical letters": (0x1D400, 0x1D500),
    "emoji": (0x1F300, 0x1F650),
    "flags": (0x1F1E6, 0x1F200),
    "tags": (0xE0001, 0xE0080),
}
ODD = [
    "",
    " ",
    "\t\n\r\v\f \u00a0\u2003\u3000\u200b\ufeff",
    "a\u0000b\u0007c",
    "É e\u0301 E\u0301 \u1ebf",  # composed and not
    "İstanbul \u0131I ß ẞ ŉ ǰ ﬃ",  # lowercase that changes the length
    "Σίσυφος ΣΑΣ",  # final sigma
    "don't I'd you'll we've they're it's I'm can 't 'S 'RE o''s",
    "3.14 1st ½ ² Ⅷ ٣ 一二三 ①",
    "snake_case kebab-case CamelCase __init__ a.b,c;d",
    "<|startoftext|> <|endoftext|>",
    "<|endoftext|><|endoftext|>a<|startoftext|>b",
    "x<|endoftext|>y<|ENDOFTEXT|> <|EndOfText|> <| endoftext |> <|endoftext| >",
    "</w> a</w> </w></w>",
    "[PAD] [CLS] <pad> <s> </s> ##ing Ġword ▁word",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 1️⃣",
    "日本語のテキスト 中文字符 한국어 ไทย हिन्दी العربية עברית",
    "z̷̡̛a̴͝l̵g̸o",
    "&amp; &lt;b&gt; &quot;",  # transformers does not unescape HTML
    "cafÃ© â€œquotesâ€\u009d",  # nor mend wrongly decoded text
    "passing American football (in game)",
    "!!!??? ... --- ''' \"\"\"",
    "http://example.org/a?b=c&d=%20#e",
    "a" * 5000,
    "word " * 2000,
    "!?" * 3000,
    "🎉" * 1000,
    "\u0301" * 500,
    "x" + " " * 3000 + "y",
    "1" * 300,
]


def odd_strings(count: int) -> list[str]:
    """The list above and random mixtures of all ranges, the same on every run."""
    source = random.Random(0)
    assigned = {
        name: [chr(code) for code in range(*limits) if unicodedata.category(chr(code)) != "Cs"]
        for name, limits in RANGES.items()
    }
    strings = list(ODD)
    while len(strings) < count:
        pieces = []
        for _ in range(source.randint(1, 12)):
            kind = source.choice([*assigned, "label", "odd"])
            if kind == "label":
                pieces.append(source.choice(LABELS))
            elif kind == "odd":
                pieces.append(source.choice(ODD)[: source.randint(1, 20)])
            else:
                pieces.append("".join(source.choices(assigned[kind], k=source.randint(1, 8))))
        strings.append(source.choice(["", " ", "  "]).join(pieces))
    return strings


@pytest.fixture(scope="module")
def theirs() -> Any:
    return reference.tokenizer()


@pytest.fixture(scope="module")
def new_folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As transformers writes it today."""
    folder = tmp_path_factory.mktemp("new")
    theirs.save_pretrained(folder)
    assert (folder / "tokenizer.json").is_file()
    return folder


@pytest.fixture(scope="module")
def old_folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As in 2022: ``vocab.json`` and ``merges.txt``."""
    folder = tmp_path_factory.mktemp("old")
    theirs.backend_tokenizer.model.save(str(folder))
    assert (folder / "merges.txt").read_text("utf-8").startswith("#version")
    return folder


@pytest.fixture(scope="module", params=["tokenizer.json", "vocab.json and merges.txt", "saved by us"])
def tokenizer(request: Any, new_folder: Path, old_folder: Path, tmp_path_factory: Any) -> CLIPTokenizer:
    if request.param == "tokenizer.json":
        return CLIPTokenizer.from_folder(new_folder)
    tokenizer = CLIPTokenizer.from_pretrained(old_folder)
    if request.param == "saved by us":
        folder = tmp_path_factory.mktemp("ours") / "new" / "folder"
        tokenizer.save_pretrained(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


# The same ids, the same texts


def test_ids_of_every_shipped_label(tokenizer: CLIPTokenizer, theirs: Any) -> None:
    assert len(LABELS) > 1100
    assert tokenizer(LABELS)["input_ids"] == theirs(LABELS)["input_ids"]


def test_ids_of_odd_strings(tokenizer: CLIPTokenizer, theirs: Any) -> None:
    strings = odd_strings(1000)
    assert len(set(strings)) > 990
    expected = theirs(strings)
    for string, mine, other in zip(strings, tokenizer(strings)["input_ids"], expected["input_ids"], strict=True):
        assert mine == other, ascii(string)


def test_ids_are_cut_alike(tokenizer: CLIPTokenizer, theirs: Any) -> None:
    strings = odd_strings(300)
    for limit in (77, 16, 3, 2):
        expected = theirs(strings, truncation=True, max_length=limit, padding=True)
        rows = tokenizer(strings, truncation=True, max_length=limit, padding=True)
        assert rows["input_ids"] == expected["input_ids"]
        assert rows["attention_mask"] == expected["attention_mask"]


@pytest.mark.parametrize("skip", [True, False])
def test_decoding(tokenizer: CLIPTokenizer, theirs: Any, skip: bool) -> None:
    strings = odd_strings(1000)
    ids = theirs(strings)["input_ids"]
    expected = theirs.batch_decode(ids, skip_special_tokens=skip)
    assert tokenizer.batch_decode(ids, skip_special_tokens=skip) == expected
    assert [tokenizer.decode(row, skip_special_tokens=skip) for row in ids] == expected


def test_decoding_any_ids(tokenizer: CLIPTokenizer, theirs: Any) -> None:
    """Also what no text gives: halves of characters, special tokens in the middle."""
    source = random.Random(1)
    batch = [source.choices(range(len(tokenizer)), k=source.randint(0, 30)) for _ in range(300)]
    assert tokenizer.batch_decode(batch) == theirs.batch_decode(batch)


def test_ids_are_decoded_from_tensors_too(tokenizer: CLIPTokenizer) -> None:
    ids = torch.tensor(tokenizer(["a dog runs", "a dog"], padding=True)["input_ids"])
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "a dog runs"
    assert tokenizer.batch_decode(ids.numpy(), skip_special_tokens=True) == ["a dog runs", "a dog"]


def test_labels_come_back_in_lower_case(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer(["Passing American Football", "ApplyEyeMakeup"])["input_ids"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == ["passing american football", "applyeyemakeup"]


def test_both_libraries_read_what_we_save(theirs: Any, old_folder: Path, tmp_path: Path) -> None:
    CLIPTokenizer.from_folder(old_folder).save_pretrained(tmp_path)
    again = type(theirs).from_pretrained(tmp_path)
    strings = odd_strings(300)
    assert again(strings)["input_ids"] == theirs(strings)["input_ids"]
    assert again.model_max_length == 77
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(again, name) == getattr(theirs, name), name


# Padding and truncation


@pytest.mark.parametrize("padding", [True, False, "longest", "max_length", "do_not_pad"])
@pytest.mark.parametrize("truncation", [True, False, "longest_first", "do_not_truncate"])
@pytest.mark.parametrize("max_length", [None, 4, 9, 100])
def test_padding_and_truncation(
    tokenizer: CLIPTokenizer, theirs: Any, padding: Any, truncation: Any, max_length: int | None
) -> None:
    texts = ["", "dog", "a dog runs through the snow", "long " * 90, "İ 👍🏽"]
    arguments = {"padding": padding, "truncation": truncation, "max_length": max_length}
    expected, rows = theirs(texts, **arguments, verbose=False), tokenizer(texts, **arguments)
    assert rows == {"input_ids": expected["input_ids"], "attention_mask": expected["attention_mask"]}


def test_a_cut_text_keeps_its_end(tokenizer: CLIPTokenizer) -> None:
    row = tokenizer("long " * 90, truncation=True)["input_ids"]
    assert len(row) == tokenizer.model_max_length == 77
    assert (row[0], row[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_the_end_token_has_the_largest_id_and_pads(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(tokenizer) - 1
    short, long = tokenizer(["dog", "a dog runs"], padding=True)["input_ids"]
    assert set(short[2:]) == {tokenizer.pad_token_id}
    assert len(short) == len(long)
    assert short.index(max(short)) == short.index(tokenizer.eos_token_id) == len(tokenizer("dog")["input_ids"]) - 1


def test_one_text_or_several(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer(["dog"]) == tokenizer(("dog",)) == {name: [row] for name, row in tokenizer("dog").items()}
    assert tokenizer([]) == tokenizer([], padding=True) == {"input_ids": [], "attention_mask": []}


def test_special_settings_in_the_file_do_not_stick(theirs: Any, new_folder: Path, tmp_path: Path) -> None:
    """A ``tokenizer.json`` may have been saved while it truncated and padded."""
    backend = Tokenizer.from_file(str(new_folder / "tokenizer.json"))
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "tokenizer.json"))
    texts = ["a dog runs through the snow", "dog"]
    assert CLIPTokenizer.from_folder(tmp_path)(texts)["input_ids"] == theirs(texts)["input_ids"]


# Settings


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 77), (32, 32), (32.0, 32), (int(1e30), 77), (1e30, 77)], ids=str
)
def test_the_limit_of_the_settings(old_folder: Path, tmp_path: Path, limit: Any, expected: int) -> None:
    copy_vocabulary(old_folder, tmp_path)
    settings = {} if limit is None else {"model_max_length": limit}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    assert CLIPTokenizer.from_folder(tmp_path).model_max_length == expected


@pytest.mark.parametrize("kind", ["old", "new"])
@pytest.mark.parametrize("token", ["!", {"content": "!", "special": True}], ids=["string", "object"])
def test_the_padding_token_of_the_settings(
    kind: str, token: Any, old_folder: Path, new_folder: Path, tmp_path: Path
) -> None:
    copy_vocabulary(old_folder if kind == "old" else new_folder, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": token}), "utf-8")
    tokenizer = CLIPTokenizer.from_folder(tmp_path)
    assert tokenizer.pad_token_id == tokenizer.backend.token_to_id("!") != tokenizer.eos_token_id
    short, _ = tokenizer(["dog", "a dog runs"], padding=True)["input_ids"]
    assert short[-1] == tokenizer.pad_token_id
    tokenizer.save_pretrained(tmp_path / "again")
    assert CLIPTokenizer.from_folder(tmp_path / "again").pad_token_id == tokenizer.pad_token_id


def copy_vocabulary(source: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())


# Errors


@pytest.mark.parametrize("padding", ["true", "max-length", 3])
def test_unknown_padding(tokenizer: CLIPTokenizer, padding: Any) -> None:
    with pytest.raises(ValueError, match=f"padding {padding!r} is not one of True, False, 'longest', 'max_length'"):
        tokenizer("dog", padding=padding)


@pytest.mark.parametrize("truncation", ["true", "only_second"])
def test_unknown_truncation(tokenizer: CLIPTokenizer, truncation: Any) -> None:
    with pytest.raises(ValueError, match=f"truncation {truncation!r} is not one of True, False, 'longest_first'"):
        tokenizer("dog", truncation=truncation)


@pytest.mark.parametrize(("text", "kind"), [([3], "int"), (["dog", None], "NoneType"), ([["dog"]], "list")], ids=str)
def test_what_is_not_text(tokenizer: CLIPTokenizer, text: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"a string or a list of strings, got a {kind} in it"):
        tokenizer(text)


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no tokenizer in .*: it needs tokenizer\.json, or vocab\.json and merges\.txt"
    ):
        CLIPTokenizer.from_folder(tmp_path)


def test_half_of_the_files(old_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes((old_folder / "vocab.json").read_bytes())
    with pytest.raises(ModelError, match="no tokenizer in"):
        CLIPTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("tokenizer.json", "{", r"cannot read .*tokenizer\.json: "),
        ("tokenizer.json", '{"version": "1.0"}', r"tokenizer\.json is not CLIP's: its pre_tokenizer splits"),
        ("vocab.json", "{", r"cannot read .*vocab\.json"),
        ("vocab.json", "[]", r"vocab\.json holds list, not a JSON object"),
        ("vocab.json", '{"a": 0}', r"the tokenizer lacks the token <\|startoftext\|>: it is not CLIP's"),
        ("vocab.json", '{"a": "b"}', r"cannot read .*vocab\.json and .*merges\.txt: the token 'a' has the id 'b'"),
        ("merges.txt", "one\n", r"cannot read .*vocab\.json and .*merges\.txt: "),
        ("merges.txt", "q z\n", r"cannot read .*vocab\.json and .*merges\.txt: "),
        ("tokenizer_config.json", "nothing", r"cannot read .*tokenizer_config\.json: "),
    ],
)
def test_damaged_files(old_folder: Path, tmp_path: Path, name: str, contents: str, message: str) -> None:
    copy_vocabulary(old_folder, tmp_path)
    (tmp_path / name).write_text(contents, "utf-8")
    with pytest.raises(ModelError, match=message):
        CLIPTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("token", [START, END])
def test_a_vocabulary_that_is_not_clips(token: str, new_folder: Path, tmp_path: Path) -> None:
    text = (new_folder / "tokenizer.json").read_text("utf-8").replace(token, "<other>")
    (tmp_path / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=r"the tokenizer lacks the token <\|.*\|>: it is not CLIP's"):
        CLIPTokenizer.from_folder(tmp_path)
