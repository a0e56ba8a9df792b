"""One picture of what a run made: `python docs/contact_sheet.py RUN_DIR docs/images/NAME.png`.

Pictures, clips (three frames of each) and sounds (spectrograms) under the prompts that they were made from; wrong attributes in red.
"""

import json
import sys
from pathlib import Path

import av
import matplotlib
import numpy as np
import soundfile
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

COLUMNS = 6


def frames(path: Path) -> np.ndarray:
    """First, middle and last frame side by side, a white line between."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    gap = np.full((pictures[0].shape[0], 2, 3), 255, dtype=np.uint8)
    return np.concatenate([pictures[0], gap, pictures[len(pictures) // 2], gap, pictures[-1]], axis=1)


def draw(axis, kind: str, path: Path) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if kind == "audio":
        wave, rate = soundfile.read(path)
        axis.specgram(wave + 1e-5, NFFT=1024, Fs=rate, noverlap=768, cmap="magma", vmin=-120)
        axis.set_ylim(0, 4000)
    else:
        axis.imshow(frames(path) if kind == "video" else np.asarray(Image.open(path)), interpolation="nearest")


def main(run_dir: Path, out: Path) -> None:
    rows = [("image", COLUMNS, 1.25), ("image", COLUMNS, 1.25), ("video", COLUMNS // 2, 0.95), ("audio", COLUMNS // 2, 0.8)]
    figure = plt.figure(figsize=(11, 7.6), layout="constrained")
    grid = figure.add_gridspec(len(rows), COLUMNS, height_ratios=[height for _, _, height in rows])
    shown = dict.fromkeys(("image", "video", "audio"), 0)
    for row, (kind, count, _) in enumerate(rows):
        entries = json.loads((run_dir / "samples" / f"text_to_{kind}.json").read_text())
        width = COLUMNS // count
        for column in range(count):
            entry = entries[shown[kind]]
            shown[kind] += 1
            axis = figure.add_subplot(grid[row, column * width : (column + 1) * width])
            draw(axis, kind, run_dir / "samples" / entry["file"])
            right = entry["judged"] == entry["wanted"]
            text = entry["text"].replace(" at the ", "\nat the ") if kind == "image" else entry["text"]
            axis.set_title(text, fontsize=9, color="black" if right else "#b03030")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
