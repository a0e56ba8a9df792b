"""Real photographs from Debian packages and from scikit-image and scikit-learn, split by picture, for docs/benchmarks/vision_tokenizer.py.

    python docs/benchmarks/photographs.py OUT          -> OUT/train/*.jpg, OUT/heldout/*.png, OUT/unseen/*.png, OUT/clips/*.mp4
                                                          (needs apt-get, dpkg, scikit-image, scikit-learn)

Training pictures: the short side scaled to 640 pixels (smaller ones stay), JPEG of quality 95. Held-out pictures: the short side scaled
to 384, of which the middle 256 x 256 are kept, PNG; `unseen` are more of them, on which no setting was chosen. Clips: two pans over
every training picture, 9 frames of 160 x 160 at 8 Hz.
Everything that could be a rendering or a drawing is left out by name.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import av
from PIL import Image

PACKAGES = {
    "mate-backgrounds": ("Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "TwoWings",
                         "Wood", "YellowFlower"),
    "lomiri-wallpapers-16.04": ("Bridge", "Dragonfly", "Picture_0B", "Picture_1A", "Wine", "aitzgorri", "free", "friends", "greentock",
                                "life", "picosdeeuropa", "seeding", "sunset"),
    "lomiri-wallpapers-20.04": ("Kleiber",),
    "plasma-workspace-wallpapers": ("BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite",
                                    "OneStandsOut", "Path", "Volna", "summer_1am"),
}
UNSEEN = {"opencv-doc": ("aero1", "aloeL", "baboon", "basketball1", "board", "building", "butterfly", "ela_original", "fruits", "graf1",
                         "home", "leuvenA", "left01", "messi5", "rubberwhale1", "squirrel_cls", "stuff")}
FROM_SCIKIT_IMAGE = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
                     "motorcycle_left.png", "rocket.jpg")
FROM_SCIKIT_LEARN = ("china.jpg", "flower.jpg")
HELD_OUT = ("Dune", "Garden", "RainDrops", "Kleiber", "picosdeeuropa", "seeding", "Picture_1A", "EveningGlow", "FallenLeaf", "chelsea",
            "coffee", "china")
TRAIN_SIDE, HELD_OUT_SIDE, HELD_OUT_CROP = 640, 384, 256
NUM_FRAMES, CLIP_SIDE = 9, 160


def package_pictures(folder: Path, packages: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """Name -> file of the photographs in the Debian packages, fetched into `folder`."""
    found = {}
    for package, names in packages.items():
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive, folder / package], check=True)
        files = [p for p in sorted((folder / package).rglob("*")) if p.suffix in (".jpg", ".png") and not p.is_symlink()]
        for name in names:
            fitting = [p for p in files if p.stem.startswith(name) or f"/{name}/contents/images/" in str(p)]
            found[name] = max(fitting, key=lambda path: path.stat().st_size)
    return found


def all_pictures(folder: Path) -> dict[str, Path]:
    """Every photograph by name."""
    import skimage
    import sklearn.datasets

    data, images = Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"
    scikit = [data / name for name in FROM_SCIKIT_IMAGE] + [images / name for name in FROM_SCIKIT_LEARN]
    return {**package_pictures(folder, PACKAGES), **{path.stem: path for path in scikit}}


def scaled(path: Path, side: int) -> Image.Image:
    """RGB with a short side of `side` pixels; never enlarged."""
    image = Image.open(path).convert("RGB")
    share = min(1.0, side / min(image.size))
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


def pan(image: Image.Image, back: bool, frames: int, size: int) -> list[Image.Image]:
    """A moving and slowly nearing view of a picture, along its diagonal or `back`."""
    views = []
    for frame in range(frames):
        side = min(image.size) * (0.8 - 0.2 * frame / frames)
        x, y = ((length - side) * (frames - frame if back else frame) / frames for length in image.size)
        views.append(image.resize((size, size), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side)))
    return views


def write_clip(path: Path, frames: list[Image.Image], rate_hz: int = 8) -> None:
    """An H.264 file of high quality."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate_hz, options={"qp": "8"})
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def write_middle(path: Path, out: Path) -> None:
    """The middle 256 x 256 of a picture whose short side is scaled to 384."""
    image, half = scaled(path, HELD_OUT_SIDE), HELD_OUT_CROP // 2
    x, y = image.width // 2, image.height // 2
    image.crop((x - half, y - half, x + half, y + half)).save(out / f"{path.stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    parts = ("train", "heldout", "unseen", "clips")
    for part in parts:
        (out / part).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in all_pictures(Path(folder)).items():
            if name in HELD_OUT:
                write_middle(path, out / "heldout")
            else:
                image = scaled(path, TRAIN_SIDE)
                image.save(out / "train" / f"{name}.jpg", quality=95, subsampling=0)
                for back in (False, True):
                    write_clip(out / "clips" / f"{name}-{int(back)}.mp4", pan(image, back, NUM_FRAMES, CLIP_SIDE))
        for path in package_pictures(Path(folder), UNSEEN).values():
            write_middle(path, out / "unseen")
    for part in parts:
        print(f"{out / part}: {len(list((out / part).iterdir()))} files")


if __name__ == "__main__":
    main()
