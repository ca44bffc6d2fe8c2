"""Figures of an evaluation for people and programs: each form is made of the same JSON values."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..text import counted, printable
from .data import csv_text
from .tables import bar, has_blocks

BAR_WIDTH = 16
CLASSES_SHOWN = 20  # of a table, the worst
CONFUSIONS_SHOWN = 10
UNAVAILABLE = "unavailable"
CSV_FIELDS = ("kind", "name", "answered", "value", "low", "high", "sd", "videos")
ACCURACIES = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}


def write_table(values: Mapping[str, Any], out: TextIO) -> None:
    """Accuracies, calibration, the worst classes and confusions."""
    console = Console(file=out, highlight=False, force_terminal=None if out.isatty() else False)
    for part in _parts(values, has_blocks(out)):
        console.print(part)


def _parts(values: Mapping[str, Any], blocks: bool) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(_counts(values), style="bold"), _accuracies(values), _others(values)]
    parts += [Text(f"{name} is unavailable: {why}", style="yellow") for name, why in values["unavailable"].items()]
    parts += [Text("\n" + "\n ".join(lines)) for lines in remarks(values)]
    if values["classes"]:
        parts += [Text("\nClasses, the worst first", style="bold"), _classes(values["classes"], blocks)]
    if values["confusions"]:
        parts += [Text("\nMost frequent mistakes", style="bold"), _confusions(values["confusions"])]
    return parts


def remarks(values: Mapping[str, Any]) -> list[list[str]]:
    """What is said beside the figures, some lines each: the protocol, another run, what was fitted."""
    said = [[printable(values["protocol"]["said"])]] if values.get("protocol") else []
    if "draws" in values:
        said[-1].append(_draws(values["draws"]))
    said += [[_against(values["against"])]] if values.get("against") else []
    return said + ([_calibration(values["calibration"])] if values.get("calibration") else [])


def _draws(draws: Mapping[str, Any] | None) -> str:
    if not draws or not draws["top1"]:
        return "random draws: unavailable, there are too few labels, or the records lack some"
    shares = ", ".join(
        f"{ACCURACIES[k]} {draws[k]['mean'] * 100:.1f} ± {draws[k]['sd'] * 100:.1f}" for k in ("top1", "top5")
    )
    return f"{draws['top1']['splits']} random draws of {draws['classes']} of these {draws['of']} labels: {shares}"


def _counts(values: Mapping[str, Any]) -> str:
    failed = f", {values['failed']:,} of them failed and count as wrong" if values["failed"] else ""
    missing = f"; {values['missing']:,} of the ground truth have no record" if values["missing"] else ""
    model = f"{printable(values['model'])}: " if values["model"] else ""
    return f"{model}{counted(values['videos'], 'video')}, {counted(values['labels'], 'label')}{failed}{missing}"


def _accuracies(values: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    table.add_column("%", justify="right")
    table.add_column("95% interval")
    if values["failed"]:
        table.add_column(f"of the {values['videos'] - values['failed']:,} classified")
    if splits := values.get("splits"):
        table.add_column(f"mean ± sd of {', '.join(map(printable, splits))}")
    for key, name in accuracies_of(values).items():
        share = values[key]
        row = [name, UNAVAILABLE, ""] if share is None else [name, *_percent(share)]
        if values["failed"]:
            row.append("" if share is None else " ".join(_percent(share["of_classified"])))
        if splits:
            spread = values["over_splits"][key]
            row.append("" if spread is None else f"{spread['mean'] * 100:.1f} ± {spread['sd'] * 100:.1f}")
        table.add_row(*row)
    return table


def accuracies_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The names of the accuracies that say something: of up to five labels all are among the first five."""
    return {key: name for key, name in ACCURACIES.items() if key != "top5" or values["labels"] > 5}


def _percent(share: Mapping[str, Any]) -> tuple[str, str]:
    if share["value"] is None:
        return UNAVAILABLE, ""
    return f"{share['value'] * 100:.1f}", f"{share['low'] * 100:.1f} to {share['high'] * 100:.1f}"


def _others(values: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    rows = [("log loss", values["log_loss"]), ("calibration error", values["calibration_error"])]
    if "f1" in values:
        at = f"at threshold {values['f1']['threshold']:g}"
        rows = [("mean average precision", values["mean_average_precision"])]
        rows += [(f"F1 {at}", values["f1"]["micro"]), ("F1, mean over labels", values["f1"]["macro"])]
    for name, value in rows:
        table.add_row(name, UNAVAILABLE if value is None else f"{value:.3f}")
    return table


def _against(against: Mapping[str, Any]) -> str:
    difference = against["difference"]
    if difference["value"] is None:
        return "The other run has none of these videos."
    points = {name: f"{value * 100:+.1f}" for name, value in difference.items()}
    return (
        f"Against {printable(against['model'] or 'the other run')}, on {against['videos']:,} videos in both: "
        f"{points['value']} points ({points['low']} to {points['high']}); only this run is right on "
        f"{against['only_this']:,}, only the other on {against['only_other']:,} (McNemar p = {against['p_value']:.3g})"
    )


def _calibration(fitted: Mapping[str, Any]) -> list[str]:
    lines = [f"Wrote {printable(fitted['file'])}; the figures are for held-out videos ({fitted['folds']} folds)"]
    if fitted["temperature"] is not None:
        loss, error = fitted["log_loss"], fitted["calibration_error"]
        lines.append(
            f"temperature {fitted['temperature']:.3g}: log loss {loss['before']:.3f} → {loss['after']:.3f}, "
            f"calibration error {error['before']:.3f} → {error['after']:.3f}"
        )
    if "precision" in fitted:
        if fitted["min_logits"]:
            verb = "has" if fitted["min_logits"] == 1 else "have"
            held_out = ", ".join(_held_out(name, fitted[name]) for name in ("precision", "recall"))
            lines.append(f"{counted(fitted['min_logits'], 'label')} {verb} a minimum logit: {held_out}")
        else:
            lines.append("no label got a minimum logit:")
        lines += [
            f"none for {printable(label)}: {why}" for label, why in list(fitted["without"].items())[:CLASSES_SHOWN]
        ]
        if (more := len(fitted["without"]) - CLASSES_SHOWN) > 0:
            lines.append(f"and none for {more} others")
    return lines


def _held_out(name: str, share: Mapping[str, Any]) -> str:
    value, interval = _percent(share)
    return f"{name} {value}% ({interval})" if interval else f"{name} {value}"


def _classes(classes: list[dict[str, Any]], blocks: bool) -> Group:
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(overflow="fold")
    for style in ("green", "", "dim"):
        table.add_column(style=style, justify="left" if style == "green" else "right", no_wrap=True)
    shown = sorted(classes, key=lambda each: (each["value"], -each["videos"]))[:CLASSES_SHOWN]
    for each in shown:
        share = bar(each["value"], BAR_WIDTH, blocks)
        table.add_row(
            printable(each["label"]), share, f"{each['value'] * 100:.1f}", f"{each['correct']} of {each['videos']}"
        )
    rest = [Text(f" and {len(classes) - len(shown)} others", style="dim")] if len(classes) > len(shown) else []
    return Group(table, *rest)


def _confusions(confusions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for each in confusions[:CONFUSIONS_SHOWN]:
        table.add_row(f"{each['videos']}x", f"{printable(each['right'])} → {printable(each['answered'])}")
    return table


def write_json(values: Mapping[str, Any], out: TextIO) -> None:
    """The values as they are."""
    json.dump(values, out, indent=2)
    out.write("\n")


def write_csv(values: Mapping[str, Any], out: TextIO) -> None:
    """A row per figure, class and confusion."""
    writer = csv.DictWriter(out, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    count = {"videos": values["videos"]}
    rows: list[dict[str, Any]] = [
        {"kind": "figure", "name": key, **_flat(values[key]), **count}
        for key in (*ACCURACIES, "log_loss", "calibration_error", "mean_average_precision")
        if key in values
    ]
    rows += [{"kind": "figure", "name": name, "value": values[name]} for name in ("failed", "missing")]
    rows += [
        {"kind": "mean over splits", "name": key, "value": spread["mean"], "sd": spread["sd"]}
        for key, spread in values.get("over_splits", {}).items()
        if spread
    ]
    if against := values.get("against"):
        difference = against["difference"]
        rows.append({"kind": "difference", "name": "top1", "videos": against["videos"], **difference})
    rows += [
        {"kind": "figure", "name": f"f1_{kind}", "value": UNAVAILABLE if share is None else share}
        for kind, share in values.get("f1", {}).items()
        if kind != "threshold"
    ]
    rows += [{"kind": "class", "name": each["label"], **each} for each in values["classes"]]
    rows += [{"kind": "confusion", "name": each["right"], **each} for each in values["confusions"]]
    shown = printable if out.isatty() else str
    for row in rows:
        cells = {key: row.get(key) for key in CSV_FIELDS}
        writer.writerow({k: shown(csv_text(cell)) if isinstance(cell, str) else cell for k, cell in cells.items()})


def _flat(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {"value": UNAVAILABLE if value is None else value}


FORMATS: dict[str, Callable[[Mapping[str, Any], TextIO], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}
