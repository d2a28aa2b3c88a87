"""Names that a public tutorial imports; everything lives in the package ``tinyforge``."""
