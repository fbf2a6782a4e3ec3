"""From pretrained features to a classifier: fine-tuning, linear probes, cross-validation."""
