r"""Letters: lines that fit, accents that show."""

from ldm.images.lettering import font, shortened, wrapped


def test_lines_are_broken_at_spaces_and_fit():
    face = font(11)
    lines = wrapped("un lac serein entouré de montagnes enneigées", 100, face)
    assert " ".join(lines) == "un lac serein entouré de montagnes enneigées" and len(lines) > 1
    assert all(face.getlength(line) <= 100 for line in lines)
    assert wrapped("incompréhensiblement", 10, face) == ["incompréhensiblement"]


def test_accents_have_glyphs():
    face = font(15)
    missing = bytes(face.getmask("\uffff"))
    assert all(bytes(face.getmask(letter)) not in (missing, b"") for letter in "éèêàâçîôûœ")


def test_mathematics_has_glyphs():
    face = font(15)
    assert all(bytes(face.getmask(x)) != bytes(face.getmask("\uffff")) for x in "ₜ₀ᾱ×−→")


def test_a_line_that_is_too_long_ends_in_an_ellipsis():
    face = font(12)
    assert shortened("a dog", 100, face) == "a dog"
    cut = shortened("a dog with glasses " * 5000, 100, face)
    assert cut.endswith("…") and face.getlength(cut) <= 100
    assert face.getlength("a dog with glasses a") > 100 and "a dog with glasses".startswith(cut[:-1])


def test_a_line_holds_no_line_ends_and_nothing_that_cannot_be_drawn():
    line = shortened("a\ndog\t \ud800", 100, font(12))
    assert line == "a dog ?" and font(12).getmask(line)
