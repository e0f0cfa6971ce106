"""What was made smaller, in the study's report: counted, timed, and accuracy against time."""

from pathlib import Path
from typing import Any

import pandas as pd

from pruning.facts import read_json, write_json
from stages.files import exported, gains
from stages.params import Params
from stages.reporting import pictures_gains

COUNTS = ("parameters", "macs", "activation_bytes", "bytes")


def write(params: Params, folder: Path) -> str:
    """Write gains.csv, gains.json and latency.png; return the section of the report.

    Nothing, and an empty section, where no network was exported.
    """
    if not params.export:
        return ""
    found = {name: read_json(gains(name) / "metrics.json") for name in params.export}
    times = pd.concat(
        [
            pd.read_csv(gains(name) / "latency.csv").assign(experiment=name)
            for name in params.export
        ],
        ignore_index=True,
    )
    table = pd.DataFrame([{"experiment": name, **facts} for name, facts in found.items()])
    table.to_csv(folder / "gains.csv", index=False)
    times.to_csv(folder / "latency.csv", index=False)
    write_json(folder / "gains.json", found)
    pictures_gains.latency({name: gains(name) for name in params.export}, folder / "latency.png")
    return "\n\n".join(_section(params, found, times)) + "\n"


def _section(params: Params, found: dict[str, Any], times: pd.DataFrame) -> list[str]:
    threads, repeats = params.exporting.threads, int(times["calls"].min())
    places = "\n".join(f"- {name}: `{exported(name)}`" for name in params.export)
    return [
        "\n## What was made smaller",
        "The networks handed on without what their masks take whole; each puts out what its masked "
        "network does. Shares are of the dense network. Bytes are those of the weights' file; "
        "*without zeros* is the file of kept weights and bits that says where they lie.",
        _counted(found),
        "## How fast",
        f"Milliseconds of a forward, median and quartiles of {repeats} or more after a warm-up of "
        f"{int(times['warmup'].min())}, all networks in turns, {threads} "
        f"thread{'s' if threads > 1 else ''}, on the machine that made this report. ONNX runs in "
        "onnxruntime, which is faster on small networks by itself: compare it with the dense "
        "network in ONNX.",
        _timed(times),
        "![test accuracy against measured latency](latency.png)",
        "Numbers beside the points are rounds; accuracy is that of the one network that was timed.",
        places,
    ]


def _counted(found: dict[str, Any]) -> str:
    rows = [
        {
            "experiment": name,
            "round": facts["round"],
            "test accuracy %": f"{100 * facts['test_accuracy']:.2f}",
            "parameters": _left(facts, "parameters"),
            "MACs": _left(facts, "macs"),
            f"peak activations, batch {facts['activation_batch']}": _left(
                facts, "activation_bytes"
            ),
            "bytes": _left(facts, "bytes"),
            "bytes without zeros": f"{facts['bytes_compressed']:,}"
            if "bytes_compressed" in facts
            else "",
        }
        for name, facts in found.items()
    ]
    return str(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def _left(facts: dict[str, float], what: str) -> str:
    dense, left = facts[f"{what}_dense"], facts[f"{what}_shrunk"]
    return f"{left:,} of {dense:,} ({100 * left / dense:.1f} %)"


def _timed(times: pd.DataFrame) -> str:
    rows = []
    for (experiment, network, n), group in times.groupby(
        ["experiment", "network", "round"], sort=False
    ):
        row = {"experiment": experiment, "network": network, "round": n or ""}
        for one in group.to_dict("records"):
            dense = times[(times["experiment"] == experiment) & (times["network"] == "dense")]
            base = dense.loc[dense["batch"] == one["batch"], "median_ms"].iloc[0]
            row[f"batch {one['batch']}, ms"] = (
                f"{one['median_ms']:.3f} [{one['low_ms']:.3f}, {one['high_ms']:.3f}]"
            )
            row[f"batch {one['batch']}, speed-up"] = f"{base / one['median_ms']:.2f}"
        rows.append(row)
    return str(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
