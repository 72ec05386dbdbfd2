"""One file per noun: its routes with their request and response models."""
