"""Pictures of folders side by side in one picture.

    python -m experiments sheet --out FILE.jpg [--columns 8] [--side 128] FOLDER [FOLDER ...]

Takes the pictures of the first folder in the order of their names, all unless --count says how many. Each row of them
is followed by the other folders' pictures of the same names.
"""

import sys
from pathlib import Path

from PIL import Image

from data.base_dataset import read_image
from data.image_folder import list_images
from options.flags import command_parser, positive
from util.errors import UserError, first_few
from util.files import save_image

QUALITY = 88  # of the JPEG file
GAP = 2  # white pixels between pictures


def sheet(folders: list[list[Path]], columns: int, side: int) -> Image.Image:
    """Pictures, each resized to a square, in rows of so many; the rows of several folders take turns."""
    count = len(folders[0])
    rows = -(-count // columns) * len(folders)
    page = Image.new("RGB", (columns * (side + GAP) - GAP, rows * (side + GAP) - GAP), "white")
    for k, paths in enumerate(folders):
        for i, path in enumerate(paths):
            small = read_image(str(path)).resize((side, side), Image.Resampling.LANCZOS)
            row = i // columns * len(folders) + k
            page.paste(small, (i % columns * (side + GAP), row * (side + GAP)))
    return page


def write(folders: list[list[Path]], columns: int, side: int, out: Path) -> Path:
    """Make a sheet a file; returns its path."""
    save_image(sheet(folders, columns, side), out, quality=QUALITY)
    return out


def main() -> None:
    """Write the sheet.

    Raises:
        UserError: folders are empty or have pictures of other names, or --out has no ending of a picture.
    """
    parser = command_parser("experiments sheet", __doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders of pictures")
    parser.add_argument("--out", required=True, metavar="FILE.jpg", help="the picture to write")
    parser.add_argument("--columns", type=positive, default=8, help="(default: %(default)s)")
    parser.add_argument("--side", type=positive, default=128, help="pixels of each picture (default: %(default)s)")
    parser.add_argument("--count", type=positive, help="pictures of each folder (default: all)")
    args = parser.parse_args(sys.argv[1:])
    if Image.registered_extensions().get(Path(args.out).suffix) not in Image.SAVE:
        raise UserError(f"--out {args.out}: give a name that ends in .jpg or .png")
    by_name = [{Path(path).stem: Path(path) for path in list_images(folder)} for folder in args.folders]
    names = list(by_name[0])[: args.count]
    if not names:
        raise UserError(f"{args.folders[0]} has no pictures")
    for folder, paths in zip(args.folders, by_name, strict=True):
        lacking = [name for name in names if name not in paths]
        if lacking:
            raise UserError(f"{folder} has no pictures of the names {first_few(lacking)}, which {args.folders[0]} has")
    found = [[paths[name] for name in names] for paths in by_name]
    write(found, args.columns, args.side, Path(args.out))
    print(f"{len(found) * len(found[0])} pictures in {args.out}")
