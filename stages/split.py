"""Stage split: find, check and de-duplicate the images; draw train, val and test, or folds where labels are few."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("split", on_ranks=True)

from quarterturn.core.files import write_json
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.manifest import write_table
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.folds import draw_split
from quarterturn.ingest.image_table import check_rejected, read_images
from quarterturn.ingest.source import ImageSource


def main() -> None:
    params = load_params()
    source = ImageSource(params.data.path, params.data.ignore)
    said = annotate(source, params.data, given=params.split.by == "given")
    table = read_images(source).join(said)
    check_rejected(table, params.data.max_rejected)
    table, counts = draw_split(table, params.data.labels, params.split)
    write_table(table, "outputs/split/images.csv")
    write_json(counts | {"ignored": len(source.ignored())}, "metrics/split.json")
    check_unchanged(params, "data", "split")
