"""Results as Parquet: a row per record, typed, in row groups, so that memory stays bounded. pyarrow is an extra."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ResultsError
from ..results.records import Record, RunHeader
from ..text import encodable
from .files import is_terminal

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 64  # as Python objects
GROUP_BYTES = 1 << 25  # of a row group, before compression
HEADER = "xclip"  # the key of the run's header in the file's metadata, as JSON


def check_format(form: str, path: Path | None) -> None:
    """Raises ResultsError if the format is Parquet, and cannot be written to ``path``; None is stdout."""
    if form != "parquet":
        return
    if is_terminal(path):
        raise ResultsError("Parquet is a binary format: pass -o FILE.parquet")
    if find_spec("pyarrow") is None:
        raise ResultsError("Parquet needs pyarrow: pip install 'xclip-cli[parquet]', or choose another --format")


def schema() -> pyarrow.Schema:
    """The columns: the fields of all kinds of records, by their names in JSON. Null is what a record does not have."""
    import pyarrow as pa

    def struct(kind: pa.DataType, *names: str) -> list[tuple[str, pa.DataType]]:
        return [(name, kind) for name in names]

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    span = struct(number, "start_seconds", "end_seconds")
    frames = [
        *struct(whole, "requested", "decoded", "repeated", "errors"),
        ("times_seconds", pa.list_(number)),
        ("rate", text),
    ]
    return pa.schema(
        [
            ("schema", whole),
            *struct(text, "kind", "video", "status", "model", "revision"),
            *span,
            ("frames", pa.struct(frames)),
            ("predictions", pa.list_(pa.struct([("label", text), *struct(number, "score", "logit")]))),
            ("withheld", whole),
            ("seconds", pa.struct(struct(number, "decode", "model"))),
            ("num_windows", whole),
            *struct(number, "window_seconds", "stride_seconds", "min_score", "min_duration"),
            ("rate", text),
            ("segments", pa.list_(pa.struct([*span, ("label", text), ("score", number)]))),
            ("warnings", pa.list_(text)),
            ("error", pa.struct(struct(text, "type", "code", "message"))),
        ]
    )


def write_parquet(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """A row per record. The file is whole with its last row group."""
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    said = schema() if header is None else schema().with_metadata({HEADER: json.dumps(header.to_json())})
    with ParquetWriter(out.buffer, said, compression="zstd") as writer:
        group: list[pyarrow.RecordBatch] = []
        for batch in _batches(records, said):
            group.append(batch)
            if sum(each.nbytes for each in group) >= GROUP_BYTES:
                writer.write_table(Table.from_batches(group))
                group = []
        if group:
            writer.write_table(Table.from_batches(group))


def _batches(records: Iterable[Record], schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import RecordBatch

    waiting = iter(records)
    while rows := [_encodable(record.to_json()) for record in islice(waiting, ROWS_AT_ONCE)]:
        yield RecordBatch.from_pylist(rows, schema)


def _encodable(value: Any) -> Any:
    """A JSON value whose texts have an encoding."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {key: _encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in value]
    return value
