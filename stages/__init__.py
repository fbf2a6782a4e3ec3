"""The pipeline's stages, one script each: `python -m stages.NAME`, as dvc.yaml calls them."""
