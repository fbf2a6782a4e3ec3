"""Items of the audit: each trains the classifier on changed images; report.py interprets the results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quarterturn.data.pixel_store import Squares
from studies.audit import ablations, originals
from studies.audit.examine import ANGLES, Answers, Settings, examine_linear, examine_network
from studies.audit.images import Images

# Rule for `found`, always based on the rotation accuracy on test images:
# alone      higher than chance on what is left of the images
# without    lower than for `against`, from which something was removed
# planted    higher than for `against`, since every image was given a cue; shows whether such a cue would be used, not
#            whether the original images have it
# control    lower or higher than for `against`, from which it differs by chance only
# reference  not judged
Rule = Literal["alone", "without", "planted", "control", "reference"]


@dataclass(frozen=True)
class Item:
    """Describe one experiment of the audit.

    Attributes:
        rule: rule for `found`.
        stores: function that returns for each angle the pixels to rotate by it, in training and in the test.
        against: name of the item it is compared with.
        seed: seed of the training.
        linear: whether logistic regression on the pixels replaces the network.
    """

    rule: Rule
    stores: Callable[[Images], list[Squares]]
    against: str = ""
    seed: int = 0
    linear: bool = False


def ablated(change: Callable[[Squares], Squares]) -> Callable[[Images], list[Squares]]:
    """Return a function for `Item.stores`: stored squares, changed before rotation, the same for every angle."""
    return lambda images: [change(images.pixels)] * len(ANGLES)


def decoded(change: Callable[[bytes], bytes]) -> Callable[[Images], list[Squares]]:
    """Return a function for `Item.stores`: squares decoded from changed files, the same for every angle."""
    return lambda images: [images.decoded(change)] * len(ANGLES)


def whole(images: Images) -> list[Squares]:
    """Return the unchanged squares for every angle."""
    return [images.pixels] * len(ANGLES)


ITEMS = {
    "whole": Item("reference", whole),
    "another_seed": Item("control", whole, against="whole", seed=1),
    "frame_only": Item("alone", ablated(ablations.frame_only)),
    "centre_only": Item("without", ablated(ablations.centre_only), against="whole"),
    "corners_covered": Item("without", ablated(ablations.corners_covered), against="whole"),
    "thumbnail": Item("alone", ablated(ablations.thumbnails), linear=True),
    "low_pass": Item("alone", ablated(ablations.low_pass)),
    "high_pass": Item("alone", ablated(ablations.high_pass)),
    "shuffled": Item("alone", ablated(ablations.shuffled)),
    "luma_only": Item("without", ablated(ablations.luma_only), against="whole"),
    "untreated": Item("planted", decoded(originals.untreated), against="whole"),
    "saved_422": Item("reference", decoded(originals.as_422)),
    "saved_422_untreated": Item("planted", decoded(originals.as_422_untreated), against="saved_422"),
    "encoded_turned": Item("planted", decoded(originals.encoded), against="turned_encoded"),
    "turned_encoded": Item("reference", originals.turned_then_encoded),
}


def planned(images: Images) -> list[str]:
    """Return the names of the items that apply here; grey images have no colour to remove."""
    left_out = {"luma_only", "saved_422", "saved_422_untreated"} if images.pixels.shape[3] == 1 else set()
    return [name for name in ITEMS if name not in left_out]


def examine(name: str, images: Images, settings: Settings, keep: Path | None = None) -> Answers:
    """Train and test an item; ``keep`` is where to write the rotation classifier, if it has one."""
    item = ITEMS[name]
    stores = item.stores(images)
    if item.linear:
        return examine_linear(stores, images)
    return examine_network(stores, images, settings, item.seed, name, keep)
