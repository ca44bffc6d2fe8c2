from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.errors import LabelsError
from xclip_cli.labels import MAX_CHARACTERS, Labels, load_labels, read_labels, read_templates, shipped
from xclip_cli.model.tokenizer import CLIPTokenizer
from xclip_cli.text import printable


def names(path: Path) -> list[str]:
    return [name for name, _ in read_labels(str(path))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a cat\na dog\n", ["a cat", "a dog"]),
        (b"\xef\xbb\xbfa cat\r\n\r\n# a comment\r\n  a dog  \r\n", ["a cat", "a dog"]),
        (b"passing American football (in game)\nC# code", ["passing American football (in game)", "C# code"]),
        (b"a cat\ra dog\r", ["a cat", "a dog"]),
        ("café\x0bbar\u2028x\n日本語".encode(), ["café\x0bbar\u2028x", "日本語"]),
    ],
)
def test_text_files(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert names(path) == expected


def test_csv_as_the_original_label_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b'\xef\xbb\xbfid,name\r\n0,abseiling\r\n1,"salt, pepper"\r\n')
    assert names(path) == ["abseiling", "salt, pepper"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('["a cat", "a dog"]', [("a cat", ("a cat",)), ("a dog", ("a dog",))]),
        ('{"cat": ["a cat", "a kitten"], "dog": "a dog"}', [("cat", ("a cat", "a kitten")), ("dog", ("a dog",))]),
    ],
)
def test_json(tmp_path: Path, content: str, expected: list[Any]) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content, "utf-8")
    assert read_labels(str(path)) == expected


OTHERS = [".tsv", ".jsonl", ".yaml", ".YML", ".xlsx", ".md"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", b"", "contains no labels"),
        ("l.txt", b"# only\n\n", "contains no labels"),
        (
            "l.txt",
            b"ok\nna\xefve\n",
            r"l\.txt:2: not UTF-8 \(byte 0xef\), but probably Latin-1 or Windows-1252: save it as UTF-8, for .*iconv",
        ),
        ("l.txt", "a cat".encode("utf-16"), "is UTF-16: save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8"),
        ("l.txt", "a cat".encode("utf-16-le"), "is UTF-16LE: save it as UTF-8"),
        ("l.csv", "id,name\n0,caf\xe9".encode("utf-16-be"), "is UTF-16BE: save it as UTF-8"),
        ("l.json", '["a cat"]'.encode("utf-32"), "is UTF-32: save it as UTF-8"),
        ("l.txt", b"\n" * 1_000_001, "has more than 1000000 lines"),
        ("l.txt", b"a" * (32 << 20) + b"a", "is larger than 32 MB"),
        ("l.txt", b"a\nb\0c\n", r"l\.txt:2: contains a NUL byte"),
        ("l.csv", b"0,abseiling\n", r"l\.csv:1: needs a header with a column called name"),
        ("l.csv", b"id,name\n0,salt, pepper\n", r"l\.csv:2: has other fields than the header; labels with commas"),
        ("l.csv", b"id,name\n0,cat\n1\n", r"l\.csv:3: has other fields"),
        ("l.csv", b"id,name\n0,\n", r"l\.csv:2: the name is empty"),
        ("l.csv", b"", r"l\.csv:1: needs a header"),
        ("l.csv", b"id;name\n0;cat\n", r"l\.csv:1: its fields are separated by semicolons: save it with commas"),
        ("l.csv", b"id\tName\n0\tcat\n", r"l\.csv:1: its fields are separated by tabs: save it with commas"),
        *((f"l{suffix}", b"a cat\n", rf"l{suffix} is a {suffix} file: save it as \.txt") for suffix in OTHERS),
        ("l.json", b'["a",\n', r"l\.json:2: not JSON"),
        ("l.json", b'"a"', "must be a list of labels, or an object"),
        ("l.json", b"[1, 2]", "must be a list of labels, or an object"),
        ("l.json", b'{"a": []}', "the texts of 'a' must be a list of one or more texts"),
        ("l.json", b'{"a": [3]}', "the texts of 'a' must be a list of one or more texts"),
        ("l.json", b"{}", "contains no labels"),
        ("l.json", b"[" * 100_000, "must be a list of labels"),
        ("l.json", b"[" + b"1" * 5000 + b"]", "must be a list of labels"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=message):
        read_labels(str(path))


# Bytes of every kind, and what is nearly a label file of one of the formats, in any encoding.
FILES = st.binary(max_size=300) | st.builds(
    lambda start, text, encoding: start + text.encode(encoding, "surrogatepass"),
    st.sampled_from([b"", b"id,name\n", b'["', b'{"a": ["', b"\xef\xbb\xbf"]),
    st.lists(st.text(max_size=12) | st.sampled_from(['"', '", "', '"]', '"}', ",", "\r\n", "{}", "#"])).map("".join),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]),
)


@settings(max_examples=300, deadline=None)
@given(FILES, st.sampled_from([".txt", ".csv", ".json"]))
def test_any_bytes_are_labels_or_one_clear_error(tmp_path_factory: Any, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("labels") / f"l{suffix}"
    path.write_bytes(data)
    try:
        labels = load_labels([str(path)])
    except LabelsError as error:
        assert str(error)
        assert str(error) == printable(str(error))
    else:
        assert labels.names
        assert all(name.strip() for name in labels.names)
        assert len(set(labels.names)) == len(labels.names) == len(labels.texts)
        assert all(text.strip() for text in labels.all_texts)


def test_what_is_neither_file_nor_shipped_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"no label file or built-in set 'kinetics-40': did you mean kinetics-400\?"):
        read_labels("kinetics-40")
    with pytest.raises(LabelsError, match="is not a file"):
        read_labels(str(tmp_path))
    with pytest.raises(
        LabelsError, match=r"no template file or built-in set 'a video', and it has no \{\} for the label"
    ):
        read_templates("a video")


def test_texts_are_phrases_in_templates(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"cat": ["a cat", "a {} kitten"], "dog": ["a dog"]}')
    labels = load_labels([str(path)], ["bird"], ["{}", "a video of {}, of {}"])
    assert labels.names == ("cat", "dog", "bird")
    assert labels.texts == (
        ("a cat", "a video of a cat, of a cat", "a {} kitten", "a video of a {} kitten, of a {} kitten"),
        ("a dog", "a video of a dog, of a dog"),
        ("bird", "a video of bird, of bird"),
    )
    assert labels.warnings == ()


def test_duplicates_are_kept_once_and_said(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"cat": ["first"], "dog": ["a dog"], "cat": ["second"]}')
    labels = load_labels([str(path)], ["dog", "bird"])
    assert labels.names == ("cat", "dog", "bird")
    assert labels.texts[0] == ("first",)
    assert labels.warnings == ("duplicate labels are used once: 'cat', 'dog'",)


@pytest.mark.parametrize(
    ("given", "kept", "same"),
    [
        (["Color Bars", "color bars", "a cat"], ["Color Bars", "a cat"], "'color bars' is 'Color Bars'"),
        (["a  cat", "a\u3000cat", "a cat"], ["a  cat"], "'a\u3000cat' is 'a  cat', 'a cat' is 'a  cat'"),
        (["cafe\u0301", "caf\u00e9"], ["cafe\u0301"], "'caf\u00e9' is 'cafe\u0301'"),
        (["ΟΔΟΣ", "οδοσ", "οδος"], ["ΟΔΟΣ", "οδος"], "'οδοσ' is 'ΟΔΟΣ'"),
    ],
)
def test_labels_that_are_one_to_the_model_are_one(given: list[str], kept: list[str], same: str) -> None:
    labels = Labels.of(given)
    assert labels.names == tuple(kept)
    assert labels.warnings[0] == f"labels with the same text for the model are one label: {same}"


def test_labels_of_other_names_and_the_same_texts_are_one(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"cat": ["a cat", "a kitten"], "feline": ["A kitten", "a cat"], "dog": ["a dog"]}')
    labels = load_labels([str(path)])
    assert labels.names == ("cat", "dog")
    assert labels.warnings == ("labels with the same text for the model are one label: 'feline' is 'cat'",)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained("bundled")


LETTERS = "aAéÉe\u0301 \u00a0\u3000\tΣσςßẞİıK\u212b\u200dﬁ1½-'"  # noqa: RUF001
WORDS = st.text(st.sampled_from(LETTERS), min_size=1, max_size=6)


@settings(max_examples=500, deadline=None)
@given(WORDS, WORDS)
def test_labels_are_one_where_the_model_reads_the_same(tokenizer: CLIPTokenizer, one: str, other: str) -> None:
    try:
        labels = Labels.of([one, other])
    except LabelsError:  # nothing but spaces
        return
    same = tokenizer(one)["input_ids"] == tokenizer(other)["input_ids"]
    assert (len(labels.names) == 1) == same


@pytest.mark.parametrize(
    ("names", "sign"),
    [
        (["1. a cat", "2. a dog"], "2 labels are numbered, such as '2. a dog': the model reads the numbers too"),
        (["(7) a cat", "(8) a dog", "a bird"], "2 labels are numbered"),
        (["0 abseiling", "1 air drumming"], "2 labels are numbered"),
        (["１．猫", "２．犬"], "2 labels are numbered"),  # noqa: RUF001
        (["- a cat", "a dog"], "the label '- a cat' begins with a bullet: the model reads that too"),
        (["• a cat", "• a dog"], "begins with a bullet (and 1 more)"),
        (["a cat\t0", "a dog"], r"the label 'a cat\t0' contains a tab"),
        (["a cat # the animal", "a dog"], "contains a comment, but only whole lines can be comments"),
        (['"a cat"', "a dog"], "is in quotes"),
        (["a cat,", "a dog"], "ends with a separator"),
    ],
)
def test_signs_of_a_file_that_holds_more_than_labels(names: list[str], sign: str) -> None:
    (warning,) = Labels.of(names).warnings
    assert sign in warning


@pytest.mark.parametrize(
    "names",
    [
        ["100 m sprint", "200 m sprint"],
        ["1. FC Köln", "a stadium"],
        ["C# code", "issue #1", "a-b", "--force"],
        ["don't", "rock 'n' roll", "3D", "2 dogs"],
    ],
)
def test_what_labels_may_be_written_with(names: list[str]) -> None:
    assert Labels.of(names).warnings == ()


def test_a_shipped_name_is_no_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ucf-101", "actions", "mine"):
        Path(name).write_text("mine\n{} of mine\n")
    assert len(read_labels("ucf-101")) == 101
    assert len(read_templates("actions")) == 16
    assert read_labels("./ucf-101") == read_labels("mine") == [("mine", ("mine",)), ("{} of mine", ("{} of mine",))]


def test_many_columns_take_no_time(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("name" + "," * 20_000 + "\n" + "".join(f"{i}\n" for i in range(20_000)))
    began = time.monotonic()
    assert len(read_labels(str(path))) == 20_000
    assert time.monotonic() - began < 3  # 14 s where each row has all columns


def test_more_characters_than_memory_is_for(tmp_path: Path) -> None:
    names = [f"{i:0900}" for i in range(2_000)]
    with pytest.raises(LabelsError, match=f"the labels in 50 templates have more than {MAX_CHARACTERS} characters"):
        Labels.of(names, ["{}" + "x" * i for i in range(50)])


def test_sizes_that_no_label_file_has(tmp_path: Path) -> None:
    """Lines of 10 MB, 100,000 labels, and templates that would make terabytes of them."""
    path = tmp_path / "labels.txt"
    path.write_text("x" * 10_000_000)
    with pytest.raises(LabelsError, match=r"^the label 'xxx.{0,80} has 10000000 characters, but the limit is 1000$"):
        load_labels([str(path)])
    path.write_text("".join(f"label {i}\n" for i in range(100_000)) * 2)
    labels = load_labels([str(path)])
    assert (len(labels.names), labels.names[-1]) == (100_000, "label 99999")
    assert labels.warnings[0].endswith("'label 3', 'label 4' and 99995 more")
    with pytest.raises(LabelsError, match="100000 labels in 11 templates are 1100000 texts, more than 1000000"):
        Labels.of(labels.names, ["{}"] * 11)
    with pytest.raises(LabelsError, match=r"the label 'label 0' in the template '\{\}.* has 3500 characters"):
        Labels.of(labels.names, ["{}" * 500])
    path.write_text('id,name\n0,"' + "x" * 200_000 + '"\n')
    csv_path = path.rename(tmp_path / "labels.csv")
    with pytest.raises(LabelsError, match=r"labels\.csv:\d: field larger than field limit"):
        load_labels([str(csv_path)])


def test_one_label_is_worth_a_warning() -> None:
    assert "its score is 1" in Labels.of(["a cat"]).warnings[0]


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], ["{}"], "there are no labels: give at least one"),
        (["a", " "], ["{}"], "the label ' ' is empty"),
        (["a", "\ud800"], ["{}"], "contains bytes or half characters that are not text"),
        (["a"], ["no place"], r"the template 'no place' has no \{\} for the label"),
        (["a"], ["{} \udcff"], r"the template '\{\} \\udcff' contains bytes or half characters that are not text"),
    ],
)
def test_what_makes_no_labels(labels: list[str], templates: list[str], message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        Labels.of(labels, templates)


def test_template_files(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("# a comment\n{}\na video of {}\n")
    assert read_templates(str(path)) == ["{}", "a video of {}"]
    assert len(read_templates("actions")) == 16
    path.write_text("{}\nno place\n")
    with pytest.raises(LabelsError, match=r"templates\.txt: the template 'no place' has no \{\}"):
        read_templates(str(path))


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("kinetics-400", 400, ["abseiling", "passing American football (in game)", "zumba"]),
        ("kinetics-600", 600, ["acting in play", "zumba"]),
        ("ucf-101", 101, ["ApplyEyeMakeup", "YoYo"]),
        ("hmdb-51", 51, ["brush hair", "flic flac", "wave"]),
    ],
)
def test_shipped_sets(name: str, count: int, some: list[str]) -> None:
    labels = load_labels([name])
    assert len(labels.names) == count
    assert set(some) <= set(labels.names)
    assert labels.warnings == ()


def test_a_checkout_reads_its_own_prompts() -> None:
    root = Path(__file__).parent.parent
    assert shipped("labels")["ucf-101"] == root / "prompts" / "labels" / "ucf-101.txt"
    assert not (root / "xclip_cli" / "prompts").exists()


def test_a_written_csv_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    values = ['quo"te', "com,ma", "plain", "日本"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "name"], *enumerate(values)])
    assert names(path) == values


def test_lowest_logits_in_json(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"a cat": {"texts": ["a cat", "a kitten"], "min_logit": 18}, "a dog": ["a dog"]}))
    labels = load_labels([str(path)])
    assert labels.texts == (("a cat", "a kitten"), ("a dog",))
    assert labels.min_logits == (18.0, None)
    path.write_text(json.dumps({"a cat": {"min_logit": -2.5}}))
    assert (load_labels([str(path)]).texts, load_labels([str(path)]).min_logits) == ((("a cat",),), (-2.5,))
    assert load_labels([], ["a cat"]).min_logits == ()


@pytest.mark.parametrize("floor", ['"18"', "true", "NaN", "[1]", "Infinity", "1e400", "1" * 400, "-1" + "0" * 400])
def test_what_is_no_lowest_logit(tmp_path: Path, floor: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(f'{{"a cat": {{"texts": ["a cat"], "min_logit": {floor}}}}}')
    with pytest.raises(LabelsError, match=r"'a cat' must be a list of texts, or .*min_logit"):
        load_labels([str(path)])
    path.write_text('{"a cat": {"texts": ["a cat"], "min_logits": 18}}')
    with pytest.raises(LabelsError, match=r"'a cat' must be a list of texts, or .*min_logit"):
        load_labels([str(path)])
