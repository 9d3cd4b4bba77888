"""What the model need not compute twice: features of pictures, keys and values of what it read."""
