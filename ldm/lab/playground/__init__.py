"""The model in a web page: type a prompt and watch it become an image, without Python."""
