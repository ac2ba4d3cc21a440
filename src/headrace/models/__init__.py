"""One file per architecture; a file is named after its `model_type`."""
