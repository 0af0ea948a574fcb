"""What ``ii.compare`` returns: its results, and the report that is made of them."""

from __future__ import annotations

import os
from pathlib import Path

from implicit_infer.compare.results import Results


class Comparison(Results):
    """What a comparison found.

    Args:
        folder: Where the runs are.
        runs: Which of them; all that the folder holds if None.

    Raises:
        ValueError: If the folder holds no comparison.
    """

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write one self-contained HTML page with the table, the pictures and what was run.

        Args:
            path: Where to; ``report.html`` in the comparison's folder if None.

        Returns:
            The page's path.
        """
        from implicit_infer.report.page import write_page

        return write_page(self, self.folder.root / "report.html" if path is None else Path(path))

    def __repr__(self) -> str:
        return f"<comparison in {self.folder.root}: {len(self.runs)} runs>\n{self.summary().to_string(index=False)}"
