"""Label and template files → Labels, with every fault found by file and line before a model is loaded.

A label file is ``.txt`` (a label a line, ``#`` comments), ``.csv`` (a header with a ``name`` column) or ``.json`` (a
list of labels, or label → list of texts, or label → ``{"texts": […], "min_logit": 18}``, or such labels calibrated for
a model: ``{"labels": {…}, "temperature": 1.4, "model": its identity}``). A template is a sentence with ``{}``. The
texts of a label are its name, or the texts it was given, put into every template. Labels may also stand in the place of
a file's name: ``a cat, a dog``.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import logging
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import LabelsError
from .folders import neighbours
from .text import counted, listed, one_line, other_encoding, printable, quoted

_log = logging.getLogger(__name__)

# What a video may show that no label says: neutral texts, which labels have to beat. Whole-scene words and the bare
# kinds of things that videos show, so that one of them fits anything a little, and nothing well.
BACKGROUND = ("a video", "something else", "a person", "an object", "a place", "an empty scene")
NONE_OF_THESE = "none of these"

BARE_LABEL = "{}"  # the default template: the label alone, as in the paper

# Far above what any model takes; a file beyond them is no label file.
MAX_BYTES = 32 << 20  # of a file
MAX_LINES = 1_000_000  # of a file
MAX_TEXTS = 1_000_000  # of all labels in all templates
MAX_LENGTH = 1_000  # characters of a text: CLIP's models take 77 tokens
MAX_LOGIT = 1e6  # CLIP's are under a hundred
LEAST_TEMPERATURE = 1e-6  # logits over less are no numbers any more
MAX_CHARACTERS = 1 << 26  # of all texts together

LABEL_FILES = (".txt", ".csv", ".json")  # suffixes

# Suffixes of files that hold something else than labels: read line by line, their syntax would be part of each label.
OTHER_FILES = frozenset(
    [
        *(
            ".tsv",
            ".tab",
            ".jsonl",
            ".ndjson",
            ".yaml",
            ".yml",
            ".toml",
            ".ini",
            ".xml",
            ".html",
            ".htm",
            ".md",
            ".rst",
        ),
        *(".rtf", ".py", ".pbtxt", ".srt", ".vtt", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".pdf"),
    ]
)

# What lists are written with, and a label is not: it would be part of what the model compares videos with.
_NUMBER = re.compile(r"[(\[]?(\d+)(?:\s*[.):\]．、）]\s*|\s+(?:[-–]\s+)?)\S")  # noqa: RUF001 - as they are written
_ODDITIES = {
    "begins with a bullet": re.compile(r"[-*+•·◦‣▪–—]\s"),  # noqa: RUF001
    "contains a tab": re.compile(r".*\t", re.DOTALL),
    "contains a comment, but only whole lines can be comments": re.compile(r".*\s(#|//)\s", re.DOTALL),
    "is in quotes": re.compile(r"(?P<quote>[\"']).*(?P=quote)\Z|“.*”\Z|‘.*’\Z|«.*»\Z", re.DOTALL),  # noqa: RUF001
    "ends with a separator": re.compile(r".*[,;|]\Z", re.DOTALL),
}


@dataclass(frozen=True)
class Labels:
    """The labels to choose from. Raises LabelsError if there are none."""

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]  # of each label, at least one
    templates: tuple[str, ...] = (BARE_LABEL,)
    warnings: tuple[str, ...] = ()
    min_logits: tuple[float | None, ...] = ()  # of each label, where any has one; with a lower logit it is no answer
    background: tuple[str, ...] = ()  # neutral texts, one embedding each
    temperature: float | None = None  # that makes scores among all these labels probabilities, if it was fitted
    model: str | None = None  # identity of the only model that these labels are for

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelsError("there are no labels: give at least one")

    @classmethod
    def of(cls, names: Iterable[str], templates: Iterable[str] = (BARE_LABEL,)) -> Labels:
        """From label names alone. Raises LabelsError."""
        if isinstance(names, str) or isinstance(templates, str):
            raise TypeError(
                "labels and templates are lists of strings, not one string (for a built-in set pass "
                'load_labels(["picture-state"]))'
            )
        return make_labels([(name, (name,)) for name in names], templates)

    @property
    def all_texts(self) -> list[str]:
        """Every text of every label, in order, then those of the background."""
        return [*(text for texts in self.texts for text in texts), *self.background]

    @property
    def sha256(self) -> str:
        """Identifies the labels and texts."""
        more = [values for values in (self.min_logits, self.background, self.temperature) if values]
        return hashlib.sha256(json.dumps([self.names, self.texts, *more]).encode()).hexdigest()

    def with_background(self) -> Labels:
        """The same, with the neutral texts. Raises LabelsError if a label has the name of their answer."""
        if NONE_OF_THESE in self.names:
            raise LabelsError(f"the label {NONE_OF_THESE!r} is what --none-of-these answers: give it another name")
        return replace(self, background=BACKGROUND)


def calibrated_identity(model: str, head: str | None) -> str:
    """What calibrated labels are for: a checkpoint, by its identity, with a head or without."""
    return model if head is None else f"{model}+{head}"


Phrases = tuple[str, tuple[str, ...]]  # a label and what stands for it in the templates


def make_labels(
    entries: Iterable[Phrases], templates: Iterable[str], min_logits: Mapping[str, float] | None = None
) -> Labels:
    """Put labels into templates. Of labels that are one name, or one to the model, the first is kept, with a warning;
    so are signs of a file that holds more than labels. Raises LabelsError."""
    templates = tuple(templates) or (BARE_LABEL,)
    for template in templates:
        _check_template(template)
    unique: dict[str, tuple[str, ...]] = {}
    first: dict[tuple[str, ...], str] = {}  # label by what the model reads of it
    twice, same = [], []
    for name, phrases in entries:
        _check_phrases(name, phrases)
        if name in unique:
            twice.append(name)
        elif (kept := first.setdefault(_as_read(phrases), name)) != name:
            same.append((name, kept))
        else:
            unique[name] = phrases
    warnings = []
    if twice:
        repeated = list(dict.fromkeys(twice))
        warnings.append(f"duplicate labels are used once: {listed(repeated, show=quoted)}")
    if same:
        pairs = [f"{quoted(name)} is {quoted(kept)}" for name, kept in dict.fromkeys(same)]
        warnings.append(f"labels with the same text for the model are one label: {listed(pairs)}")
    if len(unique) == 1:
        warnings.append("only one label: its score is 1 whatever the video shows")
    warnings += _oddities(list(unique))
    texts = _all_filled(unique, templates)
    floors = tuple((min_logits or {}).get(name) for name in unique) if min_logits else ()
    return Labels(tuple(unique), texts, templates, tuple(warnings), floors)


def _check_phrases(name: str, phrases: Sequence[str]) -> None:
    """Raises LabelsError where a label has no text, or one that no model takes."""
    if not all(_is_text(phrase) for phrase in (name, *phrases)):
        raise LabelsError(f"the label {quoted(name)} contains bytes or half characters that are not text")
    if not name.strip() or not phrases or not all(phrase.strip() for phrase in phrases):
        raise LabelsError(f"the label {quoted(name)} is empty or has an empty text")
    longest = max(map(len, (name, *phrases)))
    if longest > MAX_LENGTH:
        raise LabelsError(f"the label {quoted(name)} has {longest} characters, but the limit is {MAX_LENGTH}")


def _all_filled(labels: Mapping[str, Sequence[str]], templates: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The texts of each label. Raises LabelsError where they are more than memory is for."""
    count = sum(map(len, labels.values())) * len(templates)
    if count > MAX_TEXTS:
        raise LabelsError(
            f"{len(labels)} labels in {len(templates)} templates are {count} texts, more than {MAX_TEXTS}"
        )
    texts, characters = [], 0
    for phrases in labels.values():
        texts.append(tuple(_filled(template, phrase) for phrase in phrases for template in templates))
        characters += sum(map(len, texts[-1]))
        if characters > MAX_CHARACTERS:
            raise LabelsError(f"the labels in {len(templates)} templates have more than {MAX_CHARACTERS} characters")
    return tuple(texts)


def _as_read(phrases: Iterable[str]) -> tuple[str, ...]:
    """Phrases as CLIP's tokenizer reads them: composed, in small letters, any spaces as one; in any order."""
    composed = (unicodedata.normalize("NFC", phrase) for phrase in phrases)
    # letter by letter, as there: a small sigma at the end of a word is another letter
    return tuple(sorted(" ".join("".join(map(str.lower, phrase)).split()) for phrase in composed))


def _oddities(names: Sequence[str]) -> Iterator[str]:
    """What speaks for a list that was written in another way than label files are."""
    numbers = [int(found[1]) for name in names if (found := _NUMBER.match(name))]
    run_on = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if run_on and 2 * len(numbers) >= len(names):
        yield f"{len(numbers)} labels are numbered, such as {quoted(names[-1])}: the model reads the numbers too"
    for what, sign in _ODDITIES.items():
        if odd := [name for name in names if sign.match(name)]:
            more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
            yield f"the label {quoted(odd[0])} {what}{more}: the model reads that too"


def _check_template(template: str) -> None:
    """Raises LabelsError where a template cannot be used."""
    if BARE_LABEL not in template:
        raise LabelsError(f"the template {quoted(template)} has no {{}} for the label")
    if not _is_text(template):
        raise LabelsError(f"the template {quoted(template)} contains bytes or half characters that are not text")


def _filled(template: str, phrase: str) -> str:
    """A phrase in a template. Raises LabelsError where that is no text of a usual length."""
    length = len(template) + template.count(BARE_LABEL) * (len(phrase) - len(BARE_LABEL))
    if length > MAX_LENGTH:
        raise LabelsError(
            f"the label {quoted(phrase)} in the template {quoted(template)} has {length} characters, but the limit is "
            f"{MAX_LENGTH}"
        )
    return template.replace(BARE_LABEL, phrase)


def _is_text(phrase: object) -> bool:
    """Whether a tokenizer can take it: a string without lone surrogates."""
    try:
        return isinstance(phrase, str) and phrase.encode() is not None
    except UnicodeEncodeError:
        return False


def load_labels(sources: Sequence[str], names: Sequence[str] = (), templates: Sequence[str] = ()) -> Labels:
    """Labels from files or shipped sets, then single names, in templates given as such or by file or shipped name.

    A source that is neither, has a comma or a blank, and no suffix of a file, is labels with commas between them.
    Raises LabelsError.
    """
    fitted = Fitted()
    entries = [entry for source in sources for entry in _written_out(source) or read_labels(source, fitted)]
    if fitted.model is not None and (len(sources) > 1 or names or templates):
        raise LabelsError(
            f"{sources[0]} is calibrated for its own labels and texts: omit other --labels, --label and --template"
        )
    entries += [(name, (name,)) for name in names]
    filled = [template for given in templates for template in read_templates(given)]
    labels = make_labels(entries, filled, fitted.min_logits)
    return replace(labels, temperature=fitted.temperature, model=fitted.model)


@dataclass
class Fitted:
    """What label files hold besides labels and texts."""

    min_logits: dict[str, float] = field(default_factory=dict)
    temperature: float | None = None
    model: str | None = None


def _written_out(source: str) -> list[Phrases]:
    """The labels that stand in the place of a file's name, which is said; none where it is a name."""
    if not re.search(r"[,\s]", source) or source in shipped("labels"):
        return []
    with suppress(OSError, RuntimeError, ValueError):  # too long, or otherwise no name: it may be labels
        if os.path.lexists(Path(source).expanduser()):
            return []
    found = [name.strip() for name in re.split(r"[,\n]", source) if name.strip()]
    if named := [name for name in found if name in shipped("labels") or os.path.isfile(name)]:  # noqa: PTH113 - any text
        verb = "is a label set or file" if len(named) == 1 else "are label sets or files"
        raise LabelsError(
            f"{' and '.join(map(quoted, named))} {verb}, not labels: pass --labels once for each set, --label for a "
            "label"
        )
    if Path(source).suffix.lower() in {*LABEL_FILES, *OTHER_FILES}:
        return []
    _log.info("using %s given inline: %s", counted(len(found), "label"), listed(found, show=quoted))
    return [(name, (name,)) for name in found]


def read_labels(source: str, fitted: Fitted | None = None) -> list[Phrases]:
    """The labels of a file, or of a shipped set by its name; what else it holds goes into ``fitted``. Raises
    LabelsError."""
    path = _find(source, "labels", "label file")
    text = read_text(path)
    if path.suffix.lower() == ".json":
        entries = _parse_json(text, path, fitted or Fitted())
    else:
        entries = (_parse_csv if path.suffix.lower() == ".csv" else _parse_lines)(text, path)
    if not entries:
        raise LabelsError(f"{path} contains no labels")
    return entries


def read_templates(given: str) -> list[str]:
    """A template as such (it has ``{}``), or those of a file or shipped set. Raises LabelsError."""
    if BARE_LABEL in given:
        return [given]
    path = _find(given, "templates", "template file")
    templates = [template for template, _ in _parse_lines(read_text(path), path)]
    for template in templates:
        if BARE_LABEL not in template:
            raise LabelsError(f"{path}: the template {quoted(template)} has no {{}} for the label")
    if not templates:
        raise LabelsError(f"{path} contains no templates")
    return templates


def shipped(kind: str) -> dict[str, Path]:
    """The files that come with xclip, by name: ``kind`` is labels or templates."""
    package = Path(__file__).parent
    checkout = package.parent  # run from a checkout, the prompts beside the package are the ones being worked on
    folder = (checkout if (checkout / "pyproject.toml").is_file() else package) / "prompts" / kind
    return {path.stem: path for path in sorted(folder.glob("*.txt"))}


def _find(source: str, kind: str, what: str) -> Path:
    """The file of a shipped name, which no file of the current folder can take, or the one at a path."""
    files = shipped(kind)
    if source in files:
        return files[source]
    if not source:
        raise LabelsError(f"an empty name is not a {what}")
    try:
        path = Path(source).expanduser()
        if path.is_file():
            if path.suffix.lower() in OTHER_FILES:
                raise LabelsError(
                    f"{source} is a {path.suffix} file: save it as .txt, one text per line (or .csv, .json)"
                )
            return path
        if path.exists():
            raise LabelsError(f"{source} is not a file")
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LabelsError(f"cannot read {source}: {reason}") from error
    near = difflib.get_close_matches(source, [*neighbours(path, LABEL_FILES), *files], 1)
    no_template = ", and it has no {} for the label" if kind == "templates" else ""
    hint = f"did you mean {one_line(near[0])}? " if near else ""
    if kind == "labels" and not path.suffix and os.sep not in source:
        hint += f"for one label pass --label {shlex.quote(printable(source))}; "
    raise LabelsError(
        f"there is no {what} or built-in set {quoted(source)}{no_template}: {hint}`xclip labels list` shows the sets"
    )


def read_text(path: Path) -> str:
    """A text file of a user's, in UTF-8. Raises LabelsError that says what else it is."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LabelsError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise LabelsError(f"{path} is larger than {MAX_BYTES >> 20} MB, the limit for a label file")
    if data.count(b"\n") + data.count(b"\r") > MAX_LINES:
        raise LabelsError(f"{path} has more than {MAX_LINES} lines, the limit for a label file")
    encoding = other_encoding(data)
    if encoding is not None:
        raise LabelsError(
            f"{path} is {encoding}: save it as UTF-8, for example with `iconv -f {encoding} -t UTF-8 OLD > NEW`"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabelsError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}), but probably Latin-1 or Windows-1252: save it "
            "as UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise LabelsError(f"{path}:{line}: contains a NUL byte, so it is not a text file")
    return text


def _parse_lines(text: str, path: Path) -> list[Phrases]:
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    return [(line, (line,)) for line in lines if line and not line.startswith("#")]


def _parse_csv(text: str, path: Path) -> list[Phrases]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    entries: list[Phrases] = []
    try:
        header = [field.strip().lower() for field in next(reader, [])]
        column = _name_column(header, path)
        for row in reader:
            if not row:
                continue
            if len(row) > len(header) or len(row) <= column:
                raise LabelsError(
                    f"{path}:{reader.line_num}: has other fields than the header; labels with commas need quotes"
                )
            name = row[column].strip()
            if not name:
                raise LabelsError(f"{path}:{reader.line_num}: the name is empty")
            entries.append((name, (name,)))
    except csv.Error as error:
        raise LabelsError(f"{path}:{reader.line_num}: {error}") from error
    return entries


def _name_column(header: Sequence[str], path: Path) -> int:
    """Where the names are. Raises LabelsError."""
    if "name" in header:
        return header.index("name")
    for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if "name" in (field.strip(' "') for part in header for field in part.split(separator)):
            raise LabelsError(f"{path}:1: its fields are separated by {called}: save it with commas")
    raise LabelsError(f"{path}:1: needs a header with a column called name, such as id,name")


def _parse_json(text: str, path: Path, fitted: Fitted) -> list[Phrases]:
    try:
        items = json.loads(text, object_pairs_hook=_Pairs)  # pairs, so that no label of an object is lost
    except json.JSONDecodeError as error:
        raise LabelsError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise LabelsError(f"{path}: must be a list of labels, or an object of label: list of texts") from error
    items = _uncalibrated(items, path, fitted)
    entries = []
    for item in items if isinstance(items, list) else [None]:
        name, texts = item if isinstance(item, tuple) else (item, item)
        if isinstance(name, str) and isinstance(texts, _Pairs):
            texts = _with_floor(name, dict(texts), path, fitted.min_logits)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(name, str):
            raise LabelsError(f"{path}: must be a list of labels, or an object of label: list of texts")
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise LabelsError(f"{path}: the texts of {quoted(name)} must be a list of one or more texts")
        entries.append((name, tuple(texts)))
    return entries


class _Pairs(list[Any]):
    """A JSON object, as the pairs that it holds."""


def _uncalibrated(items: object, path: Path, fitted: Fitted) -> object:
    """The labels of ``{"labels": {…}, "temperature": 1.4, "model": identity}``, whose other values go into ``fitted``;
    anything else as it is: no label has a number, or null, for its texts. Raises LabelsError."""
    values = dict(items) if isinstance(items, _Pairs) and all(isinstance(item, tuple) for item in items) else {}
    if "temperature" not in values or isinstance(values["temperature"], str | list):
        return items
    labels, temperature, model = (values.pop(key, None) for key in ("labels", "temperature", "model"))
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    number = number and LEAST_TEMPERATURE <= temperature <= 1 / LEAST_TEMPERATURE
    if values or not (number or temperature is None) or not isinstance(labels, _Pairs) or not isinstance(model, str):
        raise LabelsError(
            f'{path}: calibrated labels are {{"labels": {{…}}, "temperature": a number from {LEAST_TEMPERATURE:g} '
            f'to {1 / LEAST_TEMPERATURE:g}, or null, "model": the identity of their model}}, as '
            "`xclip evaluate --write-labels` writes them"
        )
    fitted.temperature, fitted.model = temperature, model
    return labels


def _with_floor(name: str, values: dict[str, Any], path: Path, min_logits: dict[str, float]) -> object:
    """The texts of ``{"texts": […], "min_logit": 18}``; the logit goes into ``min_logits``. Raises LabelsError."""
    floor = values.pop("min_logit", None)
    texts = values.pop("texts", name)
    # an integer may have more digits than a float can
    number = isinstance(floor, int | float) and not isinstance(floor, bool) and abs(floor) <= MAX_LOGIT
    if values or not (floor is None or number):
        raise LabelsError(
            f'{path}: the label {quoted(name)} must be a list of texts, or {{"texts": […], "min_logit": a number}}'
        )
    if floor is not None:
        min_logits.setdefault(name, float(floor))
    return texts
