"""Write docs/notebooks from the tutorials; a test fails when they are stale."""

from __future__ import annotations

import json
from pathlib import Path

from tinyforge.lessons.notebook import notebook

DOCS = Path(__file__).parent


def notebooks() -> dict[Path, str]:
    """The file of every notebook -> its content."""
    return {
        DOCS / "notebooks" / f"{page.stem}.ipynb": json.dumps(
            notebook(page.read_text(encoding="utf-8"), page.stem), ensure_ascii=False, indent=1
        )
        + "\n"
        for page in sorted((DOCS / "tutorials").glob("*.md"))
    }


if __name__ == "__main__":
    for path, content in notebooks().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(DOCS.parent))
