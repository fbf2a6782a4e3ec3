"""The pipeline's stages, one script each: `python -m stages.NAME`, as dvc.yaml calls them."""

# dvc.yaml says `python`, which is whatever stands first on PATH; every Python 3 can read this file and say it is wrong.
import os
import sys
from importlib.util import find_spec

_NEEDED = [
    "dvclive",
    "imagehash",
    "matplotlib",
    "numpy",
    "pandas",
    "PIL",
    "psutil",
    "pydantic",
    "ruamel",
    "safetensors",
]
_NEEDED += ["scipy", "sklearn", "torch", "tqdm"]
_missing = [name for name in _NEEDED if find_spec(name) is None]
if sys.version_info < (3, 11) or _missing:
    _what = f"has no {', '.join(_missing)}" if _missing else "is older than 3.11"
    sys.exit(
        f"stages: this Python ({sys.executable}) {_what}; run `make repro`, or activate the project's environment"
        " before any `dvc`: . .venv/bin/activate"
    )

if sys.argv[0] == "-m":  # one is being started; nobody only imports it
    from quarterturn.core.errors import begin

    begin(os.environ.get("DVC_STAGE", "stages"))
