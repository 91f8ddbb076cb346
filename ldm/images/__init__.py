"""Images in and out: tensors and pixels, reading other people's files, what a PNG says about itself."""
