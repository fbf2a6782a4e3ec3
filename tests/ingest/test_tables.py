"""Tables as people have them: separated by anything, with and without header, naming images in many ways."""

from pathlib import Path

import pytest

from quarterturn.core.errors import UserError
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.tables import ImageNames, Table, read_table
from tests.images import encoded, fill, scene

JPG = encoded(scene(), "JPEG")
NAMES = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/my photo.png", "c/0007.png", "c/0012.png"]


def table_in(tmp_path: Path, text: str | bytes, name: str = "meta/about.csv", column: str | None = None) -> Table:
    data = text if isinstance(text, bytes) else text.encode()
    source = ImageSource(fill(tmp_path, dict.fromkeys(NAMES, JPG) | {name: data}))
    return read_table(source, name, ImageNames(source.names()), column)


@pytest.mark.parametrize(
    ("text", "form", "columns", "images"),
    [
        ("file,kind\na/1.jpg,x\na/2.jpg,y\n", "commas", ("file", "kind"), ["a/1.jpg", "a/2.jpg"]),
        ("kind;file\nx;a/1.jpg\n", "semicolons", ("kind", "file"), ["a/1.jpg"]),
        ("sep=;\r\nkind;file\r\n0,5;a/1.jpg\r\n", "semicolons", ("kind", "file"), ["a/1.jpg"]),
        ("file\tkind\na/1.jpg\tx\n", "tabs", ("file", "kind"), ["a/1.jpg"]),
        ("a/1.jpg  0.5      mono\na/2.jpg  1.0   poly", "runs of blanks", ("1", "2", "3"), ["a/1.jpg", "a/2.jpg"]),
        ("b/my photo.png    x y   1\n", "runs of blanks", ("1", "2", "3"), ["b/my photo.png"]),
        ("a/1.jpg 7\na/2.jpg 8\n", "blanks", ("1", "2"), ["a/1.jpg", "a/2.jpg"]),
        ("a/1.jpg, 0, 4\na/2.jpg, 1, 4\n", "commas", ("1", "2", "3"), ["a/1.jpg", "a/2.jpg"]),
        ("b/my photo.png\na/1.jpg\n", "commas", ("1",), ["b/my photo.png", "a/1.jpg"]),
        (",file,kind\n0,a/1.jpg,x\n1,a/2.jpg,y\n", "commas", ("1", "file", "kind"), ["a/1.jpg", "a/2.jpg"]),
        ("\ufefffile,kind\n\n,\n , \na/1.jpg,x\n", "commas", ("file", "kind"), ["a/1.jpg"]),
        ("file,kind\na\\1.jpg,x\n", "commas", ("file", "kind"), ["a/1.jpg"]),
        ("file,kind\nA/1.JPG,x\n", "commas", ("file", "kind"), ["a/1.jpg"]),
        (
            "file,kind\nC:\\Users\\me\\a\\1.jpg,x\n/home/me/b/1.jpg,y\n",
            "commas",
            ("file", "kind"),
            ["a/1.jpg", "b/1.jpg"],
        ),
        ("id,kind\n0007,x\n0012,y\n", "commas", ("id", "kind"), ["c/0007.png", "c/0012.png"]),
        ("id,kind\n7,x\n12,y\n", "commas", ("id", "kind"), ["c/0007.png", "c/0012.png"]),
        ("image,kind\nmy photo,x\n", "commas", ("image", "kind"), ["b/my photo.png"]),
        ("file\tkind\na/1.jpg\tgreat tit\na/2.jpg\tblue tit\n", "tabs", ("file", "kind"), ["a/1.jpg", "a/2.jpg"]),
        ("0007 Boeing 707\n0012 A300\n", "blanks", ("1", "2"), ["c/0007.png", "c/0012.png"]),
        ("a/1\nb/1\n", "commas", ("1",), ["a/1.jpg", "b/1.jpg"]),
        ('file,text\na/1.jpg,"a ""quoted"", text"\na/2.jpg,y\n', "commas", ("file", "text"), ["a/1.jpg", "a/2.jpg"]),
        ("../a/1.jpg,x\n", "commas", ("1", "2"), ["a/1.jpg"]),
    ],
)
def test_a_table_is_read_by_what_its_rows_name(
    tmp_path: Path, text: str, form: str, columns: tuple[str, ...], images: list[str]
) -> None:
    table = table_in(tmp_path, text)
    assert (table.form, table.columns, table.images) == (form, columns, images)


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["1,0,0", "0,1,0", "0,0,1"], ["cat", "dog", "cow"]),
        (["1.0,0.0,0.0", "0.0,0.0,0.0", *["0.0,0.0,1.0"] * 9], ["cat", "", *["cow"] * 9]),
        (["1,0,0", "1,1,0", "0,0,1"], None),  # several classes of one image
        (["1,0,0", "0,0,0", "0,0,1"], None),  # a third has no class
        (["1,0,7", "1,0,8", "0,1,9"], ["cat", "cat", "dog"]),
        (["1,4,7", "1,5,8", "0,6,9"], None),
        (["TRUE,FALSE,FALSE", "FALSE,FALSE,TRUE"], ["cat", "cow"]),
    ],
)
def test_a_column_of_0_and_1_for_each_class_tells_classes(
    tmp_path: Path, cells: list[str], labels: list[str] | None
) -> None:
    table = table_in(tmp_path, "file,cat,dog,cow\n" + "".join(f"a/{n}.jpg,{row}\n" for n, row in enumerate(cells, 1)))
    place = table.place("one-hot class")
    assert (None if place is None else table.cells(place)) == labels
    assert table.place("cow") == 3
    without_header = table_in(tmp_path, "".join(f"a/{n}.jpg,{row}\n" for n, row in enumerate(cells, 1)))
    assert without_header.place("one-hot class") is None


def test_a_table_may_be_in_utf16_as_excel_saves_it(tmp_path: Path) -> None:
    assert table_in(tmp_path, "file\tkind\na/1.jpg\tx\n".encode("utf-16")).images == ["a/1.jpg"]


def test_only_the_first_part_of_an_uploads_name_is_taken_off(tmp_path: Path) -> None:
    name = "123e4567-e89b-12d3-a456-426614174000.jpg"
    fill(tmp_path, {name: b""})
    assert table_in(tmp_path, f"image,kind\nupload/1/0a1b2c3d-{name},x\n").images == [name]


def test_a_stray_quotation_mark_swallows_nothing(tmp_path: Path) -> None:
    rows = "".join(f"a/{1 + number % 2}.jpg,note {number}\n" for number in range(500))
    table = table_in(tmp_path, 'file,note\nb/1.jpg,"7 inches\n' + rows)
    assert len(table.rows) == 501
    assert table.rows[0] == ["b/1.jpg", '"7 inches']


def test_what_was_found_is_told_in_one_short_line(tmp_path: Path) -> None:
    table = table_in(tmp_path, "x;y\n" + "z" * 5000 + ";1\n")
    assert table.image_column is None
    assert table.described() == f"its columns, separated by semicolons, are x, y; its first row is {'z' * 40}, 1"


def test_a_name_that_fits_two_images_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="about.csv, column file: '1.jpg' may be 'a/1.jpg' or 'b/1.jpg'"):
        table_in(tmp_path, "file,kind\n1.jpg,x\n2.jpg,y\n")


def test_columns_are_found_by_name_or_number(tmp_path: Path) -> None:
    table = table_in(tmp_path, "file,My Kind,3\na/1.jpg,x,y\n")
    assert [table.place(column) for column in ("my  kind", "2", "3", "4", "0", "kind")] == [1, 1, 2, None, None, None]
    assert table_in(tmp_path, "a,b\na/1.jpg,b/1.jpg\n", column="b").images == ["b/1.jpg"]
    with pytest.raises(UserError, match="has no column 'c': its columns, separated by commas, are a, b"):
        table_in(tmp_path, "a,b\na/1.jpg,b/1.jpg\n", column="c")


def test_a_file_that_is_missing_is_not_taken_for_another_of_its_name(tmp_path: Path) -> None:
    assert table_in(tmp_path, "file,kind\na/1.jpg,x\nc/1.jpg,y\na/2.jpg,y\n").images == ["a/1.jpg", None, "a/2.jpg"]
