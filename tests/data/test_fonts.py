"""Fonts for names: which font draws which character, what is told where none does, and how names are shortened."""

from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from quarterturn.data import fonts
from quarterturn.data.fonts import DEJAVU, draw_text, fonts_for, from_left, names_drawable, shortened, text_length

OTHER = DEJAVU.with_name("STIXGeneral.ttf")  # which matplotlib ships too
SCRIPT = "𝒜"  # MATHEMATICAL SCRIPT CAPITAL A, which of the two only this one has


@pytest.fixture(autouse=True)
def only_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests find the same fonts on every machine."""
    monkeypatch.setattr(fonts, "_told", set())
    use([OTHER], monkeypatch)


def use(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fonts._search.cache_clear()
    monkeypatch.setattr(fonts, "_installed", lambda: paths)


@pytest.fixture(autouse=True, scope="module")
def searched_anew() -> object:
    yield
    fonts._search.cache_clear()


def test_another_font_is_taken_only_for_what_dejavu_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert fonts_for("cat → кот, قطة") == []
    assert fonts_for(f"cat {SCRIPT}") == [OTHER]
    assert capsys.readouterr().err == ""


def test_what_no_font_has_is_told_once_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with names_drawable(["猫", f"犬{SCRIPT}"]):
        pass
    fonts_for("cat 犬猫")
    assert text_length("猫", 10) > 0
    line = "no installed font has 犬 猫; pictures show boxes instead, until one is installed, such as Noto\n"
    assert capsys.readouterr().err == line
    fonts_for("".join(map(chr, range(0x4E00, 0x4E00 + 50))))
    assert "一 丁 丂" in (told := capsys.readouterr().err)
    assert "and 30 more" in told
    assert told.count("\n") == 1


def test_matplotlib_draws_with_the_font_that_has_it_and_only_meanwhile() -> None:
    before = mpl.rcParams["font.family"]
    with names_drawable([SCRIPT]):
        assert mpl.rcParams["font.family"] == [*before, "STIXGeneral"]
    with names_drawable(["cat"]):
        assert mpl.rcParams["font.family"] == before
    assert mpl.rcParams["font.family"] == before


def test_a_line_is_drawn_as_long_as_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(text: str) -> tuple[int, bytes]:
        picture = Image.new("L", (400, 40), "white")
        draw_text(ImageDraw.Draw(picture), (10, 10), text, 20)
        box = picture.point(lambda value: 255 - value).getbbox()
        assert box
        return box[2] - 10, picture.tobytes()

    text = f"a cat {SCRIPT} and a dog"
    length, shown = drawn(text)
    assert length == pytest.approx(text_length(text, 20), abs=3)
    assert drawn(text) == (length, shown)
    use([], monkeypatch)
    assert drawn(text)[1] != shown  # a box


def test_after_a_name_from_the_right_a_line_goes_on_to_the_right() -> None:
    assert [from_left(name) for name in ("cat", "猫", "قطة")] == ["cat", "猫", "قطة\u200e"]


@given(st.text(max_size=60), st.integers(0, 70))
def test_names_are_shortened_in_the_middle_and_no_more_than_they_must(name: str, width: int) -> None:
    short = shortened(name, width, len)
    if len(name) <= width:
        assert short == name
    else:
        begin, end = short[: len(short) // 2], short[len(short) // 2 + 1 :]
        assert len(short) == max(width, 1)
        assert short == f"{begin}…{end}"
        assert name.startswith(begin)
        assert name.endswith(end)
