r"""The list of well-known files, and the same list for readers."""

from pathlib import Path

from ldm.checkpoints.known import KNOWN_FILES, lookup

README = Path(__file__).resolve().parents[2] / "weights" / "README.md"


def test_the_list_is_sound():
    assert len({file.sha256 for file in KNOWN_FILES}) == len(KNOWN_FILES) == 53
    for file in KNOWN_FILES:
        assert len(file.sha256) == 64 and int(file.sha256, 16) and lookup(file.sha256) == file
    assert lookup("0" * 64) is None
    # 1,066,235,307 numbers of four bytes are all of the published size but 200 kB: the header and a few tables.
    assert 0 < KNOWN_FILES[0].size - 4 * 1_066_235_307 < 300_000
    # And 361,279,120 numbers of a ControlNet.
    controls = [file for file in KNOWN_FILES if "ControlNet" in file.repository and file.size]
    assert len(controls) == 5 and all(0 < file.size - 4 * 361_279_120 < 150_000 for file in controls)
    # And 1,222,531 of TAESD's decoder; 2,567,463,684 of Stable Diffusion XL's U-Net, in half precision.
    sizes = {file.name: file.size for file in KNOWN_FILES if file.size}
    assert 0 < sizes["taesdxl_decoder.safetensors"] - 4 * 1_222_531 < 20_000
    assert 0 < sizes["sdxl_lightning_2step_unet.safetensors"] - 2 * 2_567_463_684 < 300_000


def test_the_readme_lists_every_file_with_its_size_and_hash():
    lines = README.read_text(encoding="utf-8").splitlines()
    for file in KNOWN_FILES:
        [line] = [line for line in lines if file.sha256 in line]
        assert file.name in line and file.repository in line and file.family in line
        assert (f"{file.size:,}" if file.size else "not stated") in line
