"""Make a model smaller or faster: fewer bits, fewer parts, or a smaller student; and say what that cost."""
