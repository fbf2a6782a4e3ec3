"""What is audited: each item shows the classifier something else; report.py says what it would mean if that matters."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quarterturn.data.pixel_store import Pixels
from studies.audit import ablations, originals
from studies.audit.examine import ANGLES, Answers, Settings, ask_linear, ask_network
from studies.audit.images import Images

# How an item is judged, always by the rotation accuracy on test images:
# alone      found if what is left tells the angle better than chance
# without    found if it is told worse than `against`, from which something was taken away
# planted    found if it is told better than `against`, since every image was given the cue; says nothing of the
#            images as they are, but whether such a cue would be used
# control    found if it is told worse or better than `against`, from which it differs by chance only
# reference  not judged
Rule = Literal["alone", "without", "planted", "control", "reference"]


@dataclass(frozen=True)
class Item:
    """One look.

    Attributes:
        rule: when something is found.
        stores: for each angle the pixels to be rotated by it, in training and in the test.
        against: name of the item it is compared with.
        seed: of the training.
        linear: logistic regression on the pixels instead of a network.
    """

    rule: Rule
    stores: Callable[[Images], list[Pixels]]
    against: str = ""
    seed: int = 0
    linear: bool = False


def ablated(change: Callable[[Pixels], Pixels]) -> Callable[[Images], list[Pixels]]:
    """The same stored squares for every angle, changed before they are rotated."""
    return lambda images: [change(images.pixels)] * len(ANGLES)


def decoded(change: Callable[[bytes], bytes]) -> Callable[[Images], list[Pixels]]:
    """The same for every angle, from files that were changed."""
    return lambda images: [images.decoded(change)] * len(ANGLES)


def whole(images: Images) -> list[Pixels]:
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
    """The items that change anything here: grey images have no colour to take away."""
    left_out = {"luma_only", "saved_422", "saved_422_untreated"} if images.pixels.shape[3] == 1 else set()
    return [name for name in ITEMS if name not in left_out]


def examine(name: str, images: Images, settings: Settings, keep: Path | None = None) -> Answers:
    """Train and test what an item shows; ``keep`` is where to write the rotation classifier, if there is a network."""
    item = ITEMS[name]
    stores = item.stores(images)
    if item.linear:
        return ask_linear(stores, images)
    return ask_network(stores, images, settings, item.seed, name, keep)
